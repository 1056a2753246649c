// SPDX-License-Identifier: BSD-3-Clause
#include "model_world.hpp"

#include <utility>

#include "core/meta/transitions.hpp"

namespace mirror::test {
namespace {

constexpr std::size_t traced_moves = 60;

GenerationId generation_of(std::uint64_t number) {
    GenerationId id;
    for (std::size_t i = 0; i < 8; ++i) {
        id.bytes[i] = static_cast<std::uint8_t>(number >> (8 * i));
    }
    id.bytes[15] = 1;
    return id;
}

}  // namespace

ModelWorld::ModelWorld(std::uint64_t seed)
    : random_(seed),
      events_("/dev/null", "model", clock_),
      nodes_{ModelNode(0, "alpha", meta_file_size(model_volume_size)),
             ModelNode(1, "beta", meta_file_size(model_volume_size))} {
    volume_.bytes[0] = 1;
    Superblock block;
    block.volume = volume_;
    block.volume_name = "r0";
    block.size = model_volume_size;
    block.state = ReplicaState::up_to_date;
    block.lineage.begin(generation_of(1), clock_.wall_now(), "alpha", GenerationReason::created);
    for (ModelNode& node : nodes_) {
        format(node, block);
        open_standby(node);
    }
    // As mirrorctl create leaves it: nobody was active yet, and one is promoted.
    promote(nodes_[0], Wish::plain);
}

ModelWorld::~ModelWorld() {
    for (ModelNode& node : nodes_) {
        node.door.reset();
    }
}

ModelActive::Parts ModelWorld::parts_for(ModelNode& node) {
    return {node,
            other(node),
            wire_,
            truth_,
            random_,
            clock_,
            events_,
            newest_,
            sessions_,
            steps_raised_,
            [this, &node] { interlude(node); }};
}

void ModelWorld::format(ModelNode& node, const Superblock& first) {
    Superblock block = first;
    block.node = node.name;
    block.peer = other(node).name;
    node.machine.meta.wipe();
    if (!MetaFile::format(node.machine.open_meta(), block)) {
        truth_.violated("the metadata can't be formatted");
    }
}

void ModelWorld::note(std::string what) {
    if (moves_.size() == traced_moves) {
        moves_.pop_front();
    }
    moves_.push_back(std::move(what));
}

std::string ModelWorld::trace() const {
    std::string text;
    for (const std::string& move : moves_) {
        text += move + "\n";
    }
    for (const ModelNode& node : nodes_) {
        text += fmt::format("{}: {}; data {}\n", node.name,
                            node.active    ? "active"
                            : node.replica ? "standby"
                                           : "down",
                            fmt::join(node.machine.disk.now(), " "));
        if (node.runs()) {
            const ReplicaSummary is =
                node.active ? node.active->summary() : node.replica->summary();
            text += fmt::format(
                "  {} {}{}{}, intent {}, changed {}, steps {} {} {} {}\n", to_string(is.role),
                to_string(is.state), is.unclean ? ", unclean" : "",
                is.last_active ? ", last active" : "", is.intent_bytes, is.changed_bytes,
                is.steps.taken, is.steps.offered, is.steps.content, is.steps.maps_from);
            for (const Generation& generation : is.lineage.entries()) {
                text += fmt::format("    {} {} from {}\n", short_form(generation.id),
                                    to_string(generation.reason), generation.from_step);
            }
        }
    }
    return text;
}

ModelWorld::Figures ModelWorld::figures() const {
    Figures figures = figures_;
    figures.writes = newest_;
    figures.sessions = sessions_;
    return figures;
}

// --- one move

void ModelWorld::step() {
    ++figures_.steps;
    move();
    bury_the_dead();
    for (const ModelNode& node : nodes_) {
        if (node.active) {
            node.active->check();
        }
    }
}

void ModelWorld::move() {
    if (!quiet_ && random_.one_in(90)) {
        have_an_accident(nodes_[random_.below(2)]);
    }
    ModelNode& node = nodes_[random_.below(2)];
    if (!node.runs()) {
        if (!quiet_ && random_.one_in(60)) {
            put_back(node);
        }
        if (random_.one_in(20)) {
            restart(node);
        }
        return;
    }
    if (random_.one_in(400)) {
        take_image(node);
    }
    if (!node.active && !random_.one_in(12) && other(node).active) {
        return act_as_active(other(node));
    }
    if (node.active && !random_.one_in(250)) {
        return act_as_active(node);
    }
    act_outside(node);
}

void ModelWorld::act_as_active(ModelNode& node) {
    ModelActive& active = *node.active;
    switch (random_.below(32)) {
        case 0:
            note(node.name + ": flush");
            return active.flush();
        case 1:
            note(node.name + ": checkpoint");
            return active.checkpoint();
        case 2:
            if (random_.one_in(4)) {
                note(node.name + ": compare everything");
                active.compare_everything();
            }
            return;
        case 3:
            if (random_.one_in(8)) {
                note(node.name + ": disconnect or connect");
                active.disconnect();
            }
            return;
        case 4:
            if (active.has_session() && (!wire_.is_up() || !other(node).door)) {
                note(node.name + ": notices the loss");
                active.notice_loss();
            }
            return;
        case 5:
        case 6:
            if (!active.has_session() && wire_.is_up()) {
                note(node.name + ": tries to connect");
                active.attempt();
                if (active.last_action() == Action::diverged) {
                    ++figures_.diverged;
                    random_.one_in(4) ? discard(other(node)) : void();
                }
            }
            return;
        case 7:
        case 8:
        case 9:
        case 10:
            return active.bring_up_to_date();
        case 11:
        case 12:
        case 13:
        case 14:
        case 15:
        case 16:
            return active.start_write();
        default:
            return active.advance();
    }
}

void ModelWorld::act_outside(ModelNode& node) {
    if (node.active) {
        return random_.one_in(2) ? demote(node) : switch_to(other(node));
    }
    const bool desperate = !other(node).active || !wire_.is_up();
    switch (random_.below(24)) {
        case 0:
            return random_.one_in(2) ? promote(node, Wish::force) : void();
        case 1:
            // A cluster manager that confirms only what is true.
            return other(node).runs() ? void() : promote(node, Wish::fenced);
        case 2:
        case 3:
            return switch_to(node);
        case 4:
            return discard(node);
        case 5:
        case 6:
        case 7:
            return learn_of_break(node);
        case 8:
        case 9:
        case 10:
        case 11:
        case 12:
        case 13:
            return promote(node, Wish::plain);
        default:
            return desperate ? promote(node, Wish::plain) : void();
    }
}

/// Between two steps of what an active does.
void ModelWorld::interlude(ModelNode& node) {
    if (depth_ >= 2 || !random_.one_in(3)) {
        return;
    }
    ++depth_;
    for (std::uint64_t moves = 1 + random_.below(4); moves > 0; --moves) {
        if (node.active && !node.dying()) {
            random_.one_in(2) ? node.active->start_write() : node.active->advance();
        }
    }
    ++figures_.steps;
    --depth_;
}

// --- accidents

void ModelWorld::have_an_accident(ModelNode& node) {
    const auto when = static_cast<unsigned>(random_.one_in(2) ? 0 : random_.below(12));
    switch (random_.below(10)) {
        case 0:
        case 1:
            if (node.runs()) {
                note(fmt::format("{}: the process dies after {}", node.name, when));
                node.machine.fuse.arm(when, Death::process);
            }
            return;
        case 2:
        case 3:
            if (node.runs()) {
                note(fmt::format("{}: the power fails after {}", node.name, when));
                node.machine.fuse.arm(when, Death::power);
            }
            return;
        case 4:
            note("both: the power fails");
            for (ModelNode& victim : nodes_) {
                victim.machine.fuse.blow(Death::power);
            }
            return;
        case 5:
        case 6:
            note(fmt::format("the wire is cut after {}", when));
            ++figures_.cuts;
            return wire_.cut_after(when);
        default:
            note("the wire is up");
            return wire_.set(true);
    }
}

void ModelWorld::bury_the_dead() {
    for (ModelNode& node : nodes_) {
        const Death death = node.machine.fuse.blown();
        if (death == Death::none) {
            continue;
        }
        node.active.reset();
        node.door.reset();
        node.replica.reset();
        if (death == Death::power) {
            node.machine.lose_power(random_);
            truth_.lost_power(node.number);
            rebooted_[node.number] = true;
        }
        death == Death::power ? ++figures_.power_losses : ++figures_.process_deaths;
        node.machine.fuse.replace();
        note(fmt::format("{}: gone ({})", node.name, death == Death::power ? "power" : "process"));
    }
}

void ModelWorld::take_image(const ModelNode& node) {
    const ModelTruth::Standing standing = truth_.standing(node.number);
    if (node.dying() || standing.line == ModelTruth::none) {
        return;
    }
    note(node.name + ": an image is made");
    Image image{node.machine.disk, node.machine.meta, standing, truth_.answered_so_far(node.number),
                steps_raised_};
    image.disk.flush();
    image.meta.flush();
    images_[node.number].emplace(std::move(image));
}

/// Not where the writes since then are nowhere else: they are gone, and nobody is left to know it.
/// Nor within one step, which is said to be too short a time.
void ModelWorld::put_back(ModelNode& node) {
    const auto& image = images_[node.number];
    const ModelTruth::Standing standing = truth_.standing(node.number);
    if (!image || standing.line != image->standing.line || !truth_.same_line() ||
        !truth_.has_all(node.number, other(node).machine.disk.now()) ||
        (steps_raised_ == image->steps_raised &&
         truth_.answered_so_far(node.number) != image->answered)) {
        return;
    }
    const bool metadata_alone = random_.one_in(4);
    note(node.name + (metadata_alone ? ": its metadata are put back" : ": is put back"));
    node.machine.meta = image->meta;
    if (!metadata_alone) {
        node.machine.disk = image->disk;
        truth_.put_back(node.number, image->standing);
    }
    truth_.forgets(node.number);
    rebooted_[node.number] = true;
    forks_[node.number].reset();
    ++figures_.put_back;
}

// --- what mirrord does

/// What the other side's mirrord would say.
std::optional<ReplicaSummary> ModelWorld::hear_of(ModelNode& node) {
    if (!wire_.passes() || !node.runs() || node.dying()) {
        return std::nullopt;
    }
    return node.active ? node.active->summary() : node.replica->summary();
}

void ModelWorld::open_standby(ModelNode& node) {
    auto meta = MetaFile::load(node.machine.open_meta(), "meta");
    if (!meta) {
        return node.dying() ? void() : truth_.violated(node.name + ": " + meta.error().text());
    }
    auto replica = Replica::open(node.machine.open_disk(), std::move(*meta), clock_);
    if (!replica) {
        return truth_.violated(node.name + ": " + replica.error().text());
    }
    node.replica = std::move(*replica);
    truth_.starts_again(node.number, node.replica->superblock().state == ReplicaState::up_to_date);
    auto& fork = forks_[node.number];
    if (fork && node.replica->superblock().lineage.contains(fork->generation)) {
        truth_.serves_by_force(node.number, node.machine.disk, fork->named_loss, fork->fenced);
    }
    fork.reset();
}

void ModelWorld::start_engine(ModelNode& node) {
    node.door.reset();
    node.replica.reset();
    truth_.serves(node.number, node.machine.disk.now(), other(node).active != nullptr);
    auto active = ModelActive::start(parts_for(node));
    if (active) {
        node.active = std::move(*active);
    } else if (!node.dying()) {
        truth_.violated(node.name + ": " + active.error().text());
    }
}

void ModelWorld::restart(ModelNode& node) {
    note(node.name + ": starts again");
    open_standby(node);
    const bool after_reboot = std::exchange(rebooted_[node.number], false);
    if (!node.replica || node.replica->superblock().role != Role::active) {
        return;
    }
    std::optional<ReplicaSummary> theirs = hear_of(other(node));
    const bool resumes = !after_reboot && !random_.one_in(4) && theirs &&
                         !why_not_resume(node.replica->summary(), *theirs);
    if (resumes) {
        note(node.name + ": its engine starts again");
        truth_.goes_on_by_itself(node.number);
        start_engine(node);
    } else {
        (void)node.replica->update(settle);
    }
}

void ModelWorld::demote(ModelNode& node) {
    note(node.name + ": demote");
    const auto quiet = node.active->quiesce();
    if (node.dying()) {
        return;
    }
    if (!quiet && node.active) {
        // The engine is ended all the same; what it knew is on its disk.
        note(node.name + ": not quiet: " + quiet.error().message);
    }
    ++figures_.demotes;
    node.active.reset();
    open_standby(node);
    if (node.replica && node.replica->superblock().role == Role::active) {
        (void)node.replica->update(settle);
    }
}

bool ModelWorld::get_agreement(ModelNode& node) {
    ModelNode& peer = other(node);
    if (!wire_.passes() || !peer.replica || peer.dying()) {
        return false;
    }
    const PromotionVerdict verdict =
        judge_agreement(node.replica->summary(), peer.replica->summary(), "r0");
    return verdict.allowed && peer.replica->update(give_up_token) && wire_.passes();
}

void ModelWorld::promote(ModelNode& node, Wish wish) {
    ModelNode& peer = other(node);
    if (!node.replica) {
        return;
    }
    // An active that is heard of is one that lives.
    if (node.door && peer.active && peer.active->has_session() && wire_.is_up()) {
        return;
    }
    PromotionRequest request;
    request.ours = node.replica->summary();
    request.peer = hear_of(peer);
    request.peer_name = peer.name;
    request.force = wish == Wish::force;
    request.fenced = wish == Wish::fenced;
    request.volume_name = "r0";
    const PromotionVerdict verdict = judge_promotion(request);
    note(fmt::format("{}: promote{}: {}", node.name,
                     wish == Wish::force    ? " --force"
                     : wish == Wish::fenced ? " --fenced"
                                            : "",
                     verdict.reason));
    if (!verdict.allowed) {
        ++figures_.refused;
        return;
    }
    if (verdict.needs_agreement && !get_agreement(node)) {
        return;
    }
    // Alone, with the token of then, it can't know what it lost.
    const bool unknowing = truth_.forgot(node.number) && !request.peer && !verdict.new_generation;
    const GenerationId generation = generation_of(++newest_generation_);
    if (verdict.new_generation) {
        forks_[node.number] = Fork{generation, !verdict.loss.empty(),
                                   verdict.new_generation == GenerationReason::fenced_promotion};
        verdict.new_generation == GenerationReason::forced_promotion ? ++figures_.forced
                                                                     : ++figures_.fenced;
    }
    const auto updated = node.replica->update([&](Superblock& block) {
        take_over(block, verdict, generation, clock_.wall_now(), node.name);
    });
    if (!updated) {
        return;  // it died; what is on its disk tells what it decided
    }
    if (auto& fork = forks_[node.number]) {
        truth_.serves_by_force(node.number, node.machine.disk, fork->named_loss, fork->fenced);
        fork.reset();
    }
    if (unknowing) {
        truth_.serves_unknowingly(node.number, node.machine.disk);
    }
    ++figures_.promotions;
    truth_.decided(node.number);
    start_engine(node);
}

void ModelWorld::switch_to(ModelNode& node) {
    ModelNode& active = other(node);
    if (!node.replica || !active.active || !wire_.passes()) {
        return;
    }
    PromotionRequest request;
    request.ours = node.replica->summary();
    request.peer = active.active->summary();
    request.peer->role = Role::standby;
    request.peer->unclean = false;
    request.peer_name = active.name;
    request.volume_name = "r0";
    if (!judge_promotion(request).allowed) {
        return;
    }
    demote(active);
    if (node.replica && !node.dying()) {
        promote(node, Wish::plain);
    }
}

void ModelWorld::learn_of_break(ModelNode& node) {
    const auto theirs = hear_of(other(node));
    if (!node.replica || !theirs || theirs->role != Role::active || node.door) {
        return;
    }
    const ReplicaSummary ours = node.replica->summary();
    if (relate(ours.lineage, theirs->lineage) == Relation::behind) {
        note(node.name + ": hears that it is behind");
        (void)node.replica->update(
            [&](Superblock& block) { become_stale(block, ours.lineage, theirs->break_at); });
    }
}

/// The way out by hand: one replica is made anew, while the other serves.
void ModelWorld::discard(ModelNode& node) {
    ModelNode& peer = other(node);
    if (!node.replica || !peer.active || peer.active->has_session() ||
        peer.active->summary().state != ReplicaState::up_to_date ||
        (peer.active->last_action() != Action::diverged && !random_.one_in(20))) {
        return;
    }
    note(node.name + ": is made anew");
    ++figures_.discarded;
    node.machine.fuse.replace();
    node.door.reset();
    node.replica.reset();
    Superblock block;
    block.volume = volume_;
    block.volume_name = "r0";
    block.size = model_volume_size;
    format(node, block);
    truth_.discarded(node.number);
    open_standby(node);
}

// --- the end

void ModelWorld::recover() {
    quiet_ = true;
    wire_.set(true);
    bury_the_dead();
    for (ModelNode& node : nodes_) {
        node.machine.fuse.replace();
        if (!node.runs()) {
            restart(node);
        }
    }
    for (unsigned turn = 0; turn < 3000 && violation().empty(); ++turn) {
        for (const ModelNode& node : nodes_) {
            if (node.active) {
                node.active->check();
                if (node.active->in_sync() && node.active->idle()) {
                    return;
                }
            }
        }
        recover_one_step(turn);
    }
    truth_.violated("the mirror does not get whole again");
}

void ModelWorld::recover_one_step(unsigned turn) {
    ModelNode& first = nodes_[0];
    ModelNode& second = nodes_[1];
    if (!first.active && !second.active) {
        promote(first, Wish::plain);
        if (!first.active) {
            promote(second, Wish::plain);
        }
        if (!first.active && !second.active && turn > 4) {
            promote(first, Wish::force);
            if (!first.active) {
                promote(second, Wish::force);
            }
        }
        return;
    }
    if (first.active && second.active) {
        const Relation relation =
            relate(first.active->summary().lineage, second.active->summary().lineage);
        return demote(relation == Relation::behind ? first : second);
    }
    ModelNode& active = first.active ? first : second;
    ModelNode& standby = other(active);
    active.active->advance();
    active.active->advance();
    if (active.active->has_session()) {
        if (!standby.door) {
            return active.active->notice_loss();
        }
        return active.active->bring_up_to_date();
    }
    if (active.active->paused()) {
        active.active->disconnect();
    }
    active.active->attempt();
    const Action action = active.active->last_action();
    if (action == Action::diverged) {
        return discard(standby);
    }
    if (action == Action::peer_is_newer && active.active->idle()) {
        demote(active);
        promote(standby, Wish::plain);
    }
}

}  // namespace mirror::test
