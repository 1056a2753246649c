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

Failure unreachable() {
    return fail(ErrorKind::unreachable, "the peer can't be reached");
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
                  *differences_, parts.events, parts.clock) {}

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
    if (works_.size() >= most_works || overlaps_work(first, count)) {
        return;
    }
    Work work;
    work.first = first;
    work.count = count;
    work.range = range_of(first, count);
    auto entered = differences_->enter(work.range);
    if (!entered) {
        return;
    }
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
        (void)differences_->checkpoint([this] { return settle(); });
    }
}

// --- sessions

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
    return meta_->update([this](Superblock& block) { block.session = begun_; });
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
    begun_ = random_id<SessionId>();
    auto session = std::make_shared<ModelSession>(
        parts_.peer.name, begun_, resync, [this](const Lineage& lineage) {
            parts_.interlude();
            return call([&] {
                auto synced = parts_.peer.replica->session_synced(session_->id(), lineage);
                // Also where it died over its maps: the superblock comes first.
                if (parts_.peer.replica->superblock().state == ReplicaState::up_to_date) {
                    parts_.truth.made_equal(parts_.peer.number);
                }
                return synced;
            });
        });
    ModelNode& peer = parts_.peer;
    auto begun = call([&] {
        peer.door.reset();
        return peer.replica->begin_session(session->id(), parts_.self.name, resync);
    });
    if (!begun) {
        return begun;
    }
    parts_.interlude();
    if (auto recorded = record_session(); !recorded) {
        return recorded;
    }
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
    auto told = differences_->checkpoint([this]() -> Result<void> {
        const Result<void> peer = call([&]() -> Result<void> {
            return door_is_open(*session_) ? parts_.peer.door->flush() : unreachable();
        });
        const Result<void> local = parts_.self.machine.open_disk()->flush();
        return local ? peer : local;
    });
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
    if (auto settled =
            differences_->checkpoint([this] { return parts_.self.machine.open_disk()->flush(); });
        !settled) {
        return settled;
    }
    return meta_->update(
        [this](Superblock& block) { end_serving(block, parts_.clock.wall_now()); });
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
            const bool told_nothing =
                there.state == ReplicaState::fresh || there.state == ReplicaState::failed;
            if (!named_there && !told_nothing) {
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
