// SPDX-License-Identifier: BSD-3-Clause
// What must be so between two stages of a run, after a death, and at the end, by what is on the
// disks and the rules of promotion: whoever may be promoted without --force has all that was
// promised, what is overwritten unasked is nothing that was, and nothing differs that no map names.
#include <utility>

#include "core/base/json.hpp"
#include "core/lineage/handshake.hpp"
#include "core/lineage/promotion.hpp"
#include "pair_run.hpp"

namespace mirror::test {
namespace {

using Promise = WriteLedger::Promise;

ReplicaSummary standby_with(const Superblock& block) {
    ReplicaSummary summary = summarize(block, 0, 0);
    summary.role = Role::standby;
    return summary;
}

PromotionVerdict judge(const ReplicaSummary& heir, const ReplicaSummary* other, bool fenced) {
    PromotionRequest request;
    request.ours = heir;
    request.peer_name = heir.node == "alpha" ? "beta" : "alpha";
    request.fenced = fenced;
    request.volume_name = "r0";
    if (other != nullptr) {
        request.peer = *other;
    }
    return judge_promotion(request);
}

bool may_be_promoted(const ReplicaSummary& heir, const ReplicaSummary& other) {
    const PromotionVerdict verdict = judge(heir, &other, false);
    return verdict.allowed &&
           (!verdict.needs_agreement || judge_agreement(heir, other, "r0").allowed);
}

ReplicaSummary forced(ReplicaSummary heir) {
    heir.lineage.begin(random_id<GenerationId>(), system_clock().wall_now(), heir.node,
                       GenerationReason::fenced_promotion);
    heir.role = Role::active;
    heir.state = ReplicaState::up_to_date;
    heir.last_active = true;
    return heir;
}

/// A disk failed, and its metadata can't be written to say so (docs/design.md, "Left out").
bool is_documented_hole(const ReplicaSummary& alpha, const ReplicaSummary& beta) {
    return alpha.state != ReplicaState::failed && missed_by_failed_disk(beta, alpha);
}

}  // namespace

Superblock superblock_of(const MemoryDisk& meta) {
    MemoryDisk copy(meta);
    return superblock_on(copy);
}

PairRun::Disks PairRun::look() {
    bool lost_power = false;
    {
        MutexLock lock(mutex_);
        lost_power = standby_dead_ && standby_lost_power_;
    }
    Disks disks{std::make_unique<MemoryDisk>(pair_->alpha.meta),
                lost_power ? durable_image(pair_->beta.meta)
                           : std::make_unique<MemoryDisk>(pair_->beta.meta)};
    if (lost_power) {
        disks.beta_lost_power = durable_image(pair_->beta.disk);
    }
    return disks;
}

void PairRun::check_now() {
    const Disks disks = look();
    const std::vector<std::string> before = violations();
    check_disks(disks);
    if (superblock_on(*disks.alpha_meta).sequence != superblock_of(pair_->alpha.meta).sequence ||
        superblock_on(*disks.beta_meta).sequence != superblock_on(*look().beta_meta).sequence) {
        MutexLock lock(mutex_);
        violations_ = before;  // it was no moment of rest
    }
}

void PairRun::check_at_rest() {
    check_disks(look());
}

/// Nothing is under way: what if the active died now?
void PairRun::check_disks(const Disks& disks) {
    const ReplicaSummary ours = standby_with(superblock_on(*disks.alpha_meta));
    const ReplicaSummary theirs = standby_with(superblock_on(*disks.beta_meta));
    check_maps(disks, ours, theirs);
    const bool lacks_cache = standby_lacks_cache_ || disks.beta_lost_power;
    check_heir(theirs, ours, disks.beta_lost_power ? *disks.beta_lost_power : pair_->beta.disk,
               lacks_cache ? Promise::durable : Promise::acknowledged);
    if (is_documented_hole(ours, theirs)) {
        return;
    }
    check_heir(ours, theirs, pair_->alpha.disk, Promise::acknowledged);
    if (judge(ours, nullptr, false).allowed && judge(theirs, nullptr, false).allowed) {
        violated("each may be promoted without asking the other");
    }
}

void PairRun::check_heir(const ReplicaSummary& heir, const ReplicaSummary& other, MemoryDisk& disk,
                         Promise promise) {
    const auto lacks = ledger_.missing(*disk.open(), promise);
    if (!lacks) {
        return;
    }
    if (judge(heir, nullptr, false).allowed) {
        violated(fmt::format("{} may be promoted alone, and {}", heir.node, *lacks));
    }
    if (may_be_promoted(heir, other)) {
        violated(fmt::format("{} may be promoted with the other one's agreement, and {}", heir.node,
                             *lacks));
    }
    if (judge(heir, nullptr, true).allowed &&
        decide(forced(heir), other).action != Action::diverged) {
        violated(
            fmt::format("{} may be promoted as the other one is fenced, and would overwrite "
                        "it unasked; {}",
                        heir.node, *lacks));
    }
}

void PairRun::check_maps(const Disks& disks, const ReplicaSummary& alpha,
                         const ReplicaSummary& beta) {
    ReplicaSummary active = alpha;
    active.role = Role::active;
    if (decide(active, beta).action != Action::resync_to_peer) {
        return;  // everything is compared, or a person decides
    }
    Bitmap regions(divide_up(alpha.size, region_size));
    Bitmap blocks(divide_up(alpha.size, block_size));
    for (MemoryDisk* meta : {disks.alpha_meta.get(), disks.beta_meta.get()}) {
        regions.merge(map_on(*meta, MapKind::intent));
        regions.merge(map_on(*meta, MapKind::suspect));
        blocks.merge(map_on(*meta, MapKind::changed));
    }
    MemoryDisk& theirs = disks.beta_lost_power ? *disks.beta_lost_power : pair_->beta.disk;
    for (const std::uint64_t offset : ledger_.blocks()) {
        const ByteRange range{offset, WriteLedger::block};
        if (!regions.test(offset / region_size) && !blocks.test(offset / block_size) &&
            content(pair_->alpha.disk, range) != content(theirs, range)) {
            violated(fmt::format("the block at {} differs, and no map says so", offset));
        }
    }
}

/// In sync, with nothing under way; or with the local replica left out.
void PairRun::check_equal() {
    if (pair_->status()["local_failed"] == false && all_runs()) {
        if (!pair_->equal()) {
            violated("in sync, and the disks differ");
        }
        if (const auto lacks = ledger_.missing(*pair_->alpha.disk.open(), Promise::acknowledged)) {
            violated("in sync: " + *lacks);
        }
    }
}

void PairRun::check_heirs_exist() {
    const ReplicaSummary alpha = standby_with(superblock_of(pair_->alpha.meta));
    const ReplicaSummary beta = standby_with(superblock_of(pair_->beta.meta));
    if (!may_be_promoted(alpha, beta) && !may_be_promoted(beta, alpha)) {
        violated(fmt::format("neither may be promoted: {}; {}", judge(alpha, &beta, false).reason,
                             judge(beta, &alpha, false).reason));
    }
}

}  // namespace mirror::test
