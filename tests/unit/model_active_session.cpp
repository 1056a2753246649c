// SPDX-License-Identifier: BSD-3-Clause
// The sessions of the model's active: handshake, resync, loss, end.
#include <utility>

#include "core/meta/transitions.hpp"
#include "model_active.hpp"

namespace mirror::test {

Result<Decision> ModelActive::shake_hands() {
    ModelNode& peer = parts_.peer;
    ReplicaSummary ours =
        summarize(meta_->superblock(), differences_->intent_bytes(), differences_->behind_bytes());
    ours.session_begun = begun_;
    if (!parts_.wire.passes() || !peer.runs() || peer.dying()) {
        return unreachable();
    }
    const ReplicaSummary theirs = peer.active ? peer.active->summary() : peer.replica->summary();
    Decision here = decide(ours, theirs);
    const Decision there = decide(theirs, ours);
    last_action_ = here.action;
    if (mirrored(here.action) != there.action) {
        parts_.truth.violated(fmt::format("{} decides {} where {} decides {}", ours.node,
                                          to_string(here.action), theirs.node,
                                          to_string(there.action)));
    }
    if (theirs.session == begun_ && !begun_.is_none()) {
        if (auto recorded = record_session(); !recorded) {
            return Failure(recorded.error());
        }
    }
    their_step_ = theirs.steps.newest();
    if (!here.replicates_to_peer()) {
        return fail(ErrorKind::refused, "{}", here.reason);
    }
    if (theirs.intent_bytes + theirs.changed_bytes != 0) {
        const auto regions = read_changes();
        if (!regions) {
            return Failure(regions.error());
        }
        if (auto marked = differences_->suspect(*regions); !marked) {
            return Failure(marked.error());
        }
    }
    return here;
}

Result<void> ModelActive::record_session() {
    return steps_.taken(begun_step_, [this](Superblock& block) { block.session = begun_; });
}

Result<Bitmap> ModelActive::read_changes() {
    Bitmap regions(model_regions);
    auto done = call([&]() -> Result<void> {
        const auto changes = parts_.peer.replica->open_export("/changes", [] {});
        if (!changes) {
            return Failure(changes.error());
        }
        std::array<std::byte, 1> bits{};
        if (auto read = (*changes)->read(bits, 0); !read) {
            return read;
        }
        for (std::size_t region = 0; region < model_regions; ++region) {
            if ((bits[0] >> region & std::byte{1}) != std::byte{0}) {
                regions.set({region, region + 1});
            }
        }
        return {};
    });
    return done ? Result<Bitmap>(std::move(regions)) : Failure(done.error());
}

void ModelActive::attempt() {
    if (session_ || meta_->superblock().paused) {
        return;
    }
    const auto decision = shake_hands();
    if (!decision) {
        return;
    }
    if (decision->action == Action::full_to_peer && !differences_->suspect_all()) {
        return;
    }
    parts_.interlude();
    (void)begin_session(!differences_->empty());
}

Result<void> ModelActive::begin_session(bool resync) {
    const auto step = steps_.offer(their_step_);
    if (!step) {
        return Failure(step.error());
    }
    begun_ = random_id<SessionId>();
    begun_step_ = *step;
    auto session = std::make_shared<ModelSession>(
        parts_.peer.name, begun_, resync,
        [this](const Lineage& lineage, std::uint64_t synced_step) {
            parts_.interlude();
            return call([&] {
                parts_.truth.concludes(parts_.peer.number);
                auto synced =
                    parts_.peer.replica->session_synced(session_->id(), lineage, synced_step);
                // Also where it died over its maps: the superblock comes first.
                if (parts_.peer.replica->superblock().state == ReplicaState::up_to_date) {
                    parts_.truth.made_equal(parts_.peer.number);
                }
                return synced;
            });
        },
        [this, id = begun_](std::uint64_t next) {
            parts_.interlude();
            return call([&] { return parts_.peer.replica->take_step(id, next); });
        });
    ModelNode& peer = parts_.peer;
    auto begun = call([&] {
        peer.door.reset();
        return peer.replica->begin_session({session->id(), parts_.self.name, resync, begun_step_});
    });
    if (!begun) {
        return begun;
    }
    parts_.interlude();
    if (auto recorded = record_session(); !recorded) {
        return recorded;
    }
    ++parts_.steps_raised;
    parts_.interlude();
    auto opened = call([&]() -> Result<void> {
        auto door = peer.replica->open_export("@" + to_string(session->id()), [] {});
        if (!door) {
            return Failure(door.error());
        }
        peer.door = std::move(*door);
        peer.door_session = session->id();
        return {};
    });
    if (!opened) {
        return opened;
    }
    parts_.interlude();
    if (auto installed = membership_.install(session, resync); !installed) {
        return installed;
    }
    parts_.truth.overwrites(parts_.self.number, peer.number);
    session_ = std::move(session);
    ++parts_.sessions;
    return {};
}

void ModelActive::notice_loss() {
    if (!session_) {
        return;
    }
    session_->lose("lost");
    parts_.interlude();
    membership_.session_lost(*session_, unreachable().value());
    session_.reset();
}

void ModelActive::bring_up_to_date() {
    if (!session_ || in_sync()) {
        return;
    }
    if (session_->is_lost()) {
        return notice_loss();
    }
    if (const auto region = differences_->next_region(0)) {
        // In any order, since the real ones overtake each other.
        const auto other = differences_->next_region(parts_.random.below(model_regions));
        return resync_region(other.value_or(*region));
    }
    const bool resyncs =
        std::any_of(works_.begin(), works_.end(), [](const Work& work) { return work.resync; });
    if (resyncs) {
        return;
    }
    const auto concluded = membership_.conclude(session_);
    if (concluded) {
        check_equal("after a resync");
    } else if (concluded.error().kind != ErrorKind::busy) {
        notice_loss();
    }
}

void ModelActive::resync_region(std::uint64_t region) {
    const std::size_t first = region * units_per_region;
    if (overlaps_work(first, units_per_region)) {
        return;
    }
    const Differences::Work found = differences_->work_in(region);
    if (!found.suspect && found.changed.empty()) {
        return;
    }
    Work work;
    work.resync = true;
    work.first = first;
    work.count = units_per_region;
    work.range = found.range;
    work.session = session_;
    auto entered = differences_->enter(work.range);
    if (!entered) {
        return;
    }
    work.entered = std::make_unique<IntentMap::Entered>(std::move(*entered));
    const Versions& ours = parts_.self.machine.disk.now();
    std::copy_n(ours.begin() + static_cast<std::ptrdiff_t>(first), units_per_region,
                work.versions.begin());
    for (std::size_t i = 0; i < units_per_region; ++i) {
        const std::uint64_t block = offset_of_unit(first + i) / block_size;
        for (const BitRange& run : found.changed) {
            work.sends[i] = work.sends[i] || (block >= run.first && block < run.last);
        }
    }
    if (found.suspect) {
        auto compared = call([&]() -> Result<void> {
            if (!door_is_open(*session_)) {
                return unreachable();
            }
            const Versions& theirs = parts_.peer.machine.disk.now();
            for (std::size_t i = 0; i < units_per_region; i += 2) {
                const bool equal = ours[first + i] == theirs[first + i] &&
                                   ours[first + i + 1] == theirs[first + i + 1];
                work.sends[i] = work.sends[i] || !equal;
                work.sends[i + 1] = work.sends[i + 1] || !equal;
            }
            return {};
        });
        if (!compared) {
            return;
        }
    }
    if (std::none_of(work.sends.begin(), work.sends.end(), [](bool sent) { return sent; })) {
        differences_->clear_covered(work.range, [&] { return work.session->is_lost(); });
        return;
    }
    works_.push_back(std::move(work));
}

void ModelActive::compare_everything() {
    if (in_sync() && !session_->is_lost()) {
        if (membership_.reopen(session_)) {
            (void)differences_->suspect_all();
        }
    }
}

void ModelActive::end_session(bool goes_on) {
    finish_everything();
    if (!session_ || parts_.self.dying()) {
        return;
    }
    const auto session = session_;
    writes_wait_ = true;
    auto told = differences_->checkpoint(IntentMap::Clear::all, [this]() -> Result<void> {
        const Result<void> peer = call([&]() -> Result<void> {
            return door_is_open(*session_) ? parts_.peer.door->flush() : unreachable();
        });
        const Result<void> local = parts_.self.machine.open_disk()->flush();
        return local && peer ? settle_step(IntentMap::Clear::all) : local ? peer : local;
    });
    writes_wait_ = false;
    membership_.retire(session, "ended");
    session_.reset();
    if (told) {
        (void)call([&] {
            parts_.peer.door.reset();
            return parts_.peer.replica->end_session(session->id(), goes_on);
        });
    }
}

void ModelActive::disconnect() {
    if (meta_->superblock().paused) {
        (void)meta_->update([](Superblock& block) { block.paused = false; });
        return;
    }
    if (meta_->update([](Superblock& block) { block.paused = true; })) {
        end_session(true);
    }
}

Result<void> ModelActive::quiesce() {
    end_session(false);
    if (!idle()) {
        return fail(ErrorKind::io, "the machine died meanwhile");
    }
    if (auto settled = differences_->checkpoint(
            IntentMap::Clear::all, [this] { return parts_.self.machine.open_disk()->flush(); });
        !settled) {
        return settled;
    }
    return meta_->update(
        [this](Superblock& block) { end_serving(block, parts_.clock.wall_now()); });
}

}  // namespace mirror::test
