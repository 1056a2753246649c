// SPDX-License-Identifier: BSD-3-Clause
#include "model_active.hpp"

#include <algorithm>
#include <utility>

#include "core/meta/transitions.hpp"

namespace mirror::test {
namespace {

constexpr std::size_t most_works = 4;

ByteRange range_of(std::size_t first, std::size_t count) {
    const std::uint64_t begin = offset_of_unit(first);
    const std::uint64_t end = offset_of_unit(first + count - 1) + unit_bytes;
    // A write of a whole region is one that leaves no byte of it out.
    if (count == units_per_region) {
        return {begin, region_size};
    }
    return {begin, end - begin};
}

std::size_t region_of(std::size_t unit) {
    return unit / units_per_region;
}

}  // namespace

Result<std::unique_ptr<ModelActive>> ModelActive::start(const Parts& parts) {
    auto meta = MetaFile::load(parts.self.machine.open_meta(), "meta");
    if (!meta) {
        return Failure(meta.error());
    }
    auto differences = Differences::load(**meta);
    if (!differences) {
        return Failure(differences.error());
    }
    if (auto begun = (*meta)->update(begin_to_serve); !begun) {
        return Failure(begun.error());
    }
    return std::unique_ptr<ModelActive>(
        new ModelActive(parts, std::move(*meta), std::move(*differences)));
}

ModelActive::ModelActive(const Parts& parts, std::unique_ptr<MetaFile> meta,
                         std::unique_ptr<Differences> differences)
    : parts_(parts),
      meta_(std::move(meta)),
      differences_(std::move(differences)),
      membership_({"r0", parts.self.name, parts.peer.name, OnPeerLoss::continue_alone}, *meta_,
                  *differences_, parts.events, parts.clock),
      steps_(*meta_) {
    differences_->on_leaving_quiet([this] { return leave_quiet(); });
}

bool ModelActive::in_sync() const {
    return session_ && membership_.view().mode == MirrorMode::in_sync;
}

ReplicaSummary ModelActive::summary() const {
    return summarize(meta_->superblock(), differences_->intent_bytes(),
                     differences_->changed_bytes());
}

// --- what crosses the wire

Result<void> ModelActive::call(const std::function<Result<void>()>& there) {
    const auto lives = [&] {
        return parts_.wire.passes() && parts_.peer.replica && !parts_.peer.dying() &&
               !parts_.self.dying();
    };
    if (!lives()) {
        return unreachable();
    }
    auto answer = there();
    return lives() ? answer : unreachable();
}

bool ModelActive::door_is_open(const Session& session) const {
    return parts_.peer.door && parts_.peer.door_session == session.id() && !parts_.peer.dying();
}

void ModelActive::apply_at_peer(Work& work) {
    ModelMachine& here = parts_.self.machine;
    bool done = true;
    if (work.resync) {
        parts_.truth.half_overwritten(parts_.peer.number);
        for (std::size_t i = 0; i < work.count; ++i) {
            if (work.sends[i]) {
                std::memcpy(here.scratch.data(), &work.versions[i], sizeof(Version));
                done = done && parts_.peer.door->write(std::span(here.scratch).first(unit_bytes),
                                                       offset_of_unit(work.first + i));
            }
        }
    } else {
        for (std::size_t i = 0; i < work.count; ++i) {
            std::memcpy(&here.scratch[offset_of_unit(work.first + i) - work.range.offset],
                        &work.versions[i], sizeof(Version));
        }
        done = parts_.peer.door
                   ->write(std::span(here.scratch).first(work.range.length), work.range.offset)
                   .has_value();
    }
    work.applied = done;
    work.peer_power_losses = parts_.truth.power_losses(parts_.peer.number);
}

// --- writes

bool ModelActive::overlaps_work(std::size_t first, std::size_t count) const {
    return std::any_of(works_.begin(), works_.end(), [&](const Work& work) {
        return first < work.first + work.count && work.first < first + count;
    });
}

void ModelActive::start_write() {
    ModelRandom& random = parts_.random;
    const std::size_t region = random.below(model_regions);
    std::size_t first = random.below(units_per_region);
    std::size_t count = 1 + random.below(units_per_region - first);
    if (random.one_in(5)) {
        first = 0;
        count = units_per_region;
    }
    first += region * units_per_region;
    if (writes_wait_ || works_.size() >= most_works || overlaps_work(first, count)) {
        return;
    }
    Work work;
    work.first = first;
    work.count = count;
    work.range = range_of(first, count);
    const bool was_quiet = differences_->intent_bytes() == 0;
    auto entered = differences_->enter(work.range);
    if (!entered) {
        return;
    }
    note_step(was_quiet);
    work.entered = std::make_unique<IntentMap::Entered>(std::move(*entered));
    auto parties = membership_.parties_of_write(work.range);
    if (!parties) {
        return;
    }
    work.session = parties->session;
    work.versions.fill(++parts_.newest);
    works_.push_back(std::move(work));
}

void ModelActive::advance() {
    if (!works_.empty()) {
        step_of(parts_.random.below(works_.size()));
    }
}

void ModelActive::step_of(std::size_t index) {
    Work& work = works_[index];
    const bool wait_for_peer = work.session && !work.answered && !work.peer_failed;
    if (!work.resync && !work.local_done && (!wait_for_peer || parts_.random.one_in(2))) {
        ModelMachine& machine = parts_.self.machine;
        for (std::size_t i = 0; i < work.count; ++i) {
            std::memcpy(&machine.scratch[offset_of_unit(work.first + i) - work.range.offset],
                        &work.versions[i], sizeof(Version));
        }
        work.local_done =
            machine.open_disk()
                ->write(std::span(machine.scratch).first(work.range.length), work.range.offset)
                .has_value();
        return;
    }
    if (wait_for_peer) {
        if (!work.applied && door_is_open(*work.session) &&
            (parts_.wire.passes() || (work.session->is_lost() && parts_.random.one_in(2)))) {
            // Also from a socket's buffer, after the link is gone.
            apply_at_peer(work);
        } else if (work.session->is_lost()) {
            work.peer_failed = true;
        } else if (work.applied && door_is_open(*work.session)) {
            work.answered = parts_.wire.passes() && !parts_.peer.dying();
        }
        return;
    }
    if (work.resync || work.local_done) {
        Work ended = std::move(work);
        works_.erase(works_.begin() + static_cast<std::ptrdiff_t>(index));
        ended.resync ? finish_resync(ended) : finish(ended);
    }
}

void ModelActive::finish(Work& work) {
    if (work.session && work.peer_failed) {
        membership_.peer_failed(work.session, work.range, unreachable().value());
    }
    ModelTruth::Parties parties{};
    parties[parts_.self.number] = true;
    if (work.session && work.answered) {
        differences_->clear_covered(work.range, [&] { return work.session->is_lost(); });
        parties[parts_.peer.number] = true;
    } else if (!membership_.record_alone()) {
        return;
    }
    ModelTruth::Parties kept = parties;
    if (parts_.truth.power_losses(parts_.peer.number) != work.peer_power_losses) {
        kept[parts_.peer.number] = false;
    }
    parts_.truth.answered(parts_.self.number, work.first, work.count, work.versions[0], parties,
                          kept);
}

void ModelActive::finish_resync(Work& work) {
    if (work.answered) {
        differences_->clear_covered(work.range, [&] { return work.session->is_lost(); });
    }
}

void ModelActive::finish_everything() {
    for (unsigned patience = 0; !works_.empty() && !parts_.self.dying(); ++patience) {
        if (patience > 40 && session_) {
            notice_loss();
        }
        advance();
    }
}

void ModelActive::flush() {
    const Versions answered = parts_.truth.answered_so_far(parts_.self.number);
    const Membership::Parties parties = membership_.parties();
    Result<void> peer;
    if (parties.session) {
        peer = call([&]() -> Result<void> {
            return door_is_open(*parties.session) ? parts_.peer.door->flush() : unreachable();
        });
    }
    if (!parts_.self.machine.open_disk()->flush()) {
        return;
    }
    ModelTruth::Parties flushed{};
    flushed[parts_.self.number] = true;
    flushed[parts_.peer.number] = parties.session && peer;
    if (parties.session && !peer) {
        membership_.peer_failed(parties.session, {}, peer.error());
        session_.reset();
        if (!membership_.record_alone()) {
            return;
        }
    }
    parts_.truth.flushed(parts_.self.number, answered, flushed);
}

// --- housekeeping

Result<void> ModelActive::settle() {
    parts_.interlude();
    const Membership::Parties parties = membership_.parties();
    Result<void> peer;
    if (parties.session) {
        peer = call([&]() -> Result<void> {
            return door_is_open(*parties.session) ? parts_.peer.door->flush() : unreachable();
        });
    }
    parts_.interlude();
    Result<void> local = parts_.self.machine.open_disk()->flush();
    return local ? peer : local;
}

void ModelActive::checkpoint() {
    if (idle()) {  // it would wait for the writes that are under way
        // As the housekeeper does, who clears all when there are many.
        const auto what =
            ++checkpoints_ % 2 == 0 ? IntentMap::Clear::all : IntentMap::Clear::at_rest;
        const auto done = differences_->checkpoint(what, [this, what]() -> Result<void> {
            auto settled = settle();
            return settled ? settle_step(what) : settled;
        });
        note_step(done.has_value());
    }
}

/// By when a step must have been raised, not by whether it was.
void ModelActive::note_step(bool due) {
    if (due && session_ && !session_->is_lost()) {
        ++parts_.steps_raised;
    }
}

Result<void> ModelActive::settle_step(IntentMap::Clear what) {
    const auto session = session_;
    if (!session || session->is_lost()) {
        return {};
    }
    const auto raised = steps_.raise_for_checkpoint(*session, what);
    if (!raised.there) {
        membership_.peer_failed(session, {}, raised.there.error());
    }
    return raised.there ? raised.here : raised.there;
}

Result<void> ModelActive::leave_quiet() {
    const auto session = session_;
    if (!session || session->is_lost()) {
        return {};
    }
    writes_wait_ = true;
    const auto raised = steps_.raise(*session);
    writes_wait_ = false;
    if (!raised.there) {
        membership_.peer_failed(session, {}, raised.there.error());
    }
    return raised.here;
}

// --- what must hold

void ModelActive::check_equal(const char* when) const {
    const Versions& ours = parts_.self.machine.disk.now();
    const Versions& theirs = parts_.peer.machine.disk.now();
    for (std::size_t unit = 0; unit < model_units; ++unit) {
        if (ours[unit] != theirs[unit] && !overlaps_work(unit, 1)) {
            parts_.truth.violated(fmt::format("{}: unit {} is {} on {} and {} on {}", when, unit,
                                              ours[unit], parts_.self.name, theirs[unit],
                                              parts_.peer.name));
        }
    }
}

void ModelActive::check() const {
    const ModelNode& peer = parts_.peer;
    if (parts_.self.dying() || peer.dying() || !peer.replica || !parts_.truth.same_line()) {
        return;
    }
    const bool alive = session_ && !session_->is_lost() && door_is_open(*session_);
    if (session_ && !alive) {
        return;  // its loss is not known yet
    }
    if (alive && in_sync()) {
        check_equal("in sync");
    }
    const Versions& ours = parts_.self.machine.disk.now();
    const Versions& theirs = peer.machine.disk.now();
    for (std::size_t unit = 0; unit < model_units; ++unit) {
        if (overlaps_work(unit, 1)) {
            continue;
        }
        const bool marked = differences_->overlaps({offset_of_unit(unit), unit_bytes});
        // What a standby may lose from its cache counts as different once its session is over.
        if (!marked &&
            (ours[unit] != theirs[unit] || (!alive && peer.machine.disk.unflushed(unit)))) {
            const ReplicaSummary there = peer.replica->summary();
            const bool named_there = there.intent_bytes + there.changed_bytes != 0;
            const Action action = decide(summary(), there).action;
            if (!named_there && action == Action::resync_to_peer) {
                parts_.truth.violated(
                    fmt::format("unit {} may differ ({} on {}, {} on {}) and no map says so", unit,
                                ours[unit], parts_.self.name, theirs[unit], peer.name));
            }
        }
    }
    if (alive && differences_->intent_bytes() != model_volume_size && parts_.random.one_in(16)) {
        const auto intents = meta_->read_map(MapKind::intent);
        for (std::size_t unit = 0; intents && unit < model_units; ++unit) {
            const bool unflushed =
                parts_.self.machine.disk.unflushed(unit) || peer.machine.disk.unflushed(unit);
            if (unflushed && !intents->test(region_of(unit)) &&
                !differences_->overlaps({offset_of_unit(unit), unit_bytes})) {
                parts_.truth.violated(
                    fmt::format("the intent of unit {} is gone before both have flushed", unit));
            }
        }
    }
}

}  // namespace mirror::test
