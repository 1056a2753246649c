// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/replica_comparison.hpp"

#include <chrono>
#include <vector>

#include "core/base/json.hpp"
#include "core/control/comparison_requests.hpp"
#include "core/control/messages.hpp"

namespace mirror::daemon {
namespace {

/// Reading 32 MiB of a disk that is busy with other things.
constexpr std::chrono::seconds step_deadline{60};

Result<Json> ask_peer(VolumeKeeper& keeper, Json request) {
    request["volume"] = keeper.name();
    return keeper.peers().ask(keeper.peer(), request, step_deadline);
}

/// For ourselves: what is left of a failed replica may be worth an undo file.
Result<Json> answer_from(const Json& request, VolumeKeeper::Lease& lease) {
    if (request.value("request", "") == "block-digests") {
        return control::answer_block_digests(request, lease->backing());
    }
    const auto regions = lease->regions_that_may_differ();
    if (!regions) {
        return Failure(regions.error());
    }
    return control::answer_differing_regions(request, *regions);
}

Result<Json> ask_own(VolumeKeeper& keeper, const Json& request) {
    // Between this look and the question an engine may have died, or a promotion have begun: either
    // fails then, and the whole comparison with it.
    if (keeper.place() == Place::active) {
        return keeper.engine().ask(request, step_deadline);
    }
    auto lease = keeper.replica_now();
    return lease ? answer_from(request, *lease) : Failure(lease.error());
}

Result<void> require_content(const VolumeKeeper& keeper, const Superblock& block) {
    if (block.state == ReplicaState::up_to_date || block.state == ReplicaState::stale) {
        return {};
    }
    return Failure(Error{ErrorKind::refused,
                         fmt::format("the replica of {} on {} is {}: it can't be compared with",
                                     keeper.name(), keeper.node(), to_string(block.state)),
                         fmt::format("on {}: mirrorctl status {}", keeper.node(), keeper.name())});
}

/// Asks one side until it has named all its regions. Between two pages its maps may grow only where
/// it is active, and what is written there now is lost by nobody's decision of before; the
/// resolution stops the loser first.
template <typename Ask>
Result<void> collect_regions(const Ask& ask, Bitmap& regions) {
    std::uint64_t from = 0;
    while (true) {
        const auto answer = ask(Json{{"request", "differing-regions"}, {"from", from}});
        if (!answer) {
            return Failure(answer.error());
        }
        const auto next = control::add_regions(*answer, regions);
        if (!next) {
            return Failure(next.error());
        }
        if (!*next) {
            return {};
        }
        if (**next <= from) {
            return fail(ErrorKind::protocol, "the list of differing regions does not continue");
        }
        from = **next;
    }
}

Result<Bitmap> regions_to_compare(VolumeKeeper& keeper, std::uint64_t volume_size,
                                  bool everything) {
    Bitmap regions(divide_up(volume_size, region_size));
    if (everything) {
        regions.set_all();
        return regions;
    }
    auto done =
        collect_regions([&](const Json& request) { return ask_own(keeper, request); }, regions);
    if (done) {
        done = collect_regions([&](const Json& request) { return ask_peer(keeper, request); },
                               regions);
    }
    if (!done) {
        return Failure(done.error());
    }
    return regions;
}

/// What only one side has can't be compared: ours differs where the maps name it.
void take_regions_of_one_side(const ComparedSizes& sizes, Bitmap& regions, Bitmap& blocks) {
    if (sizes.ours == sizes.theirs) {
        return;
    }
    constexpr std::uint64_t blocks_per_region = region_size / block_size;
    const std::uint64_t first = std::min(sizes.ours, sizes.theirs) / region_size;
    std::uint64_t from = first;
    while (const auto run = regions.next_run(from, regions.size())) {
        blocks.set({run->first * blocks_per_region, run->last * blocks_per_region});
        from = run->last;
    }
    regions.clear({first, regions.size()});
}

std::vector<std::uint64_t> next_regions(const Bitmap& regions, std::uint64_t& from) {
    std::vector<std::uint64_t> found;
    while (found.size() < control::regions_per_request && from < regions.size()) {
        const auto run = regions.next_run(from, 1);
        if (!run) {
            break;
        }
        found.push_back(run->first);
        from = run->last;
    }
    return found;
}

}  // namespace

Result<Json> answer_comparison(VolumeKeeper& keeper, const Json& request) {
    if (keeper.place() == Place::active) {
        return ask_own(keeper, request);
    }
    auto lease = keeper.replica_now();
    if (!lease) {
        return Failure(lease.error());
    }
    auto answer = answer_from(request, *lease);
    // After the disk was read: it may have failed, or a resync have begun, since the asker looked.
    if (auto counts = require_content(keeper, (*lease)->superblock()); !counts) {
        return Failure(counts.error());
    }
    return answer;
}

Result<Bitmap> find_differing_blocks(VolumeKeeper& keeper, const ComparedSizes& sizes,
                                     bool everything) {
    auto regions = regions_to_compare(keeper, std::max(sizes.ours, sizes.theirs), everything);
    if (!regions) {
        return Failure(regions.error());
    }
    const SessionId key = random_id<SessionId>();
    Bitmap blocks(divide_up(sizes.ours, block_size));
    take_regions_of_one_side(sizes, *regions, blocks);
    std::uint64_t from = 0;
    while (true) {
        const std::vector<std::uint64_t> wanted = next_regions(*regions, from);
        if (wanted.empty()) {
            return blocks;
        }
        if (keeper.peers().is_stopping()) {
            return fail(ErrorKind::busy, "mirrord is being stopped");
        }
        const Json request = control::ask_block_digests(key, wanted);
        const auto theirs = ask_peer(keeper, request);
        const auto ours = ask_own(keeper, request);
        if (!theirs || !ours) {
            return Failure(theirs ? ours.error() : theirs.error());
        }
        if (auto added = control::add_differing_blocks(*ours, *theirs, wanted, blocks); !added) {
            return Failure(added.error());
        }
    }
}

}  // namespace mirror::daemon
