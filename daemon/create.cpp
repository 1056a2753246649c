// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/create.hpp"

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "daemon/rto.hpp"
#include "daemon/settings_diff.hpp"

namespace mirror::daemon {
namespace {

constexpr std::chrono::seconds create_deadline{30};

/// The replica that has the volume's content from the beginning.
Superblock source_superblock(const VolumeKeeper& keeper, std::uint64_t size) {
    Superblock block = first_superblock(keeper, size);
    block.volume = random_id<VolumeId>();
    block.state = ReplicaState::up_to_date;
    block.last_active = true;
    block.steps = first_steps;
    block.lineage.begin(random_id<GenerationId>(), block.created, keeper.node(),
                        GenerationReason::created);
    return block;
}

/// What the peer has of the volume; nothing when it has none. A `create` there at the same time is
/// refused by either node, since each holds its operation and asks the other.
Result<std::optional<ReplicaSummary>> look_at_peer(VolumeKeeper& keeper) {
    const auto answer = keeper.peers().ask_status(keeper.peer());
    if (!answer) {
        Error error = answer.error();
        error.message = why_not_seen(keeper.peer(), error);
        if (!was_reached(error) || error.remedy.empty()) {
            error.remedy =
                fmt::format("{}, or mirrorctl create {} --local-only",
                            was_reached(error) ? fmt::format("correct that on {}", keeper.peer())
                                               : fmt::format("start mirrord on {}", keeper.peer()),
                            keeper.name());
        }
        return Failure(error);
    }
    const auto theirs = answer->settings.find(keeper.name());
    if (theirs == answer->settings.end()) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("the config of {} has no volume {}", keeper.peer(), keeper.name()),
                  "install the same config on both nodes and restart mirrord"});
    }
    const auto volume = answer->volumes.find(keeper.name());
    const bool made = volume != answer->volumes.end();
    const Settings ours = keeper.shared_settings();
    auto same =
        require_same_settings(keeper.name(), keeper.node(), made ? once_made(ours) : ours,
                              keeper.peer(), made ? once_made(theirs->second) : theirs->second);
    if (!same) {
        return Failure(same.error());
    }
    return volume == answer->volumes.end() ? std::optional<ReplicaSummary>()
                                           : std::optional(volume->second.summary);
}

/// What this side gives to the other one.
struct Source {
    bool is_empty = false;  ///< zeroes from end to end
    bool is_blank = false;  ///< as far as a look at it tells
};

/// What `create-replica` says of the peer's backing.
struct PeerBacking {
    bool is_empty = false;
    bool is_blank = false;
    std::string path;
    std::uint64_t data_bytes = 0;
};

Result<PeerBacking> ask_peer_to_create(VolumeKeeper& keeper, const Superblock& ours,
                                       const Source& source, const CreateOptions& options,
                                       bool dry_run) {
    const auto answer = keeper.peers().ask(keeper.peer(),
                                           {{"request", "create-replica"},
                                            {"volume", keeper.name()},
                                            {"volume_id", to_string(ours.volume)},
                                            {"size", ours.size},
                                            {"source", keeper.node()},
                                            {"settings", keeper.shared_settings()},
                                            {"lineage", control::encode(ours.lineage)},
                                            {"source_empty", source.is_empty},
                                            {"source_blank", source.is_blank},
                                            {"overwrite", options.overwrite_peer},
                                            {"from_empty", options.from_empty},
                                            {"accept_mode", options.accept_mode},
                                            {"dry_run", dry_run}},
                                           create_deadline);
    if (!answer) {
        return Failure(answer.error());
    }
    const auto is_empty = control::bool_field_or(*answer, "empty", false);
    const auto is_blank = control::bool_field_or(*answer, "blank", false);
    const auto bytes = control::optional_uint_field(*answer, "data_bytes");
    if (!is_empty || !is_blank || !bytes) {
        return fail(ErrorKind::protocol, "{}: its answer to create-replica is damaged",
                    keeper.peer());
    }
    return PeerBacking{*is_empty, *is_blank, keeper.config().backing.at(keeper.peer()),
                       bytes->value_or(0)};
}

/// "64MiB in /srv/r0.img on beta"; empty where nothing is lost.
std::string loss_of(const VolumeKeeper& keeper, const PeerBacking& there) {
    if (there.is_empty) {
        return {};
    }
    return fmt::format("{} in {} on {} is overwritten{}", format_size(there.data_bytes), there.path,
                       keeper.peer(),
                       there.is_blank ? " (a look at it found nothing but zeroes)" : "");
}

/// The destroying step for programs; the sentences are for people.
Json destroyed(const VolumeKeeper& keeper, const PeerBacking& there, const Source& source) {
    Json overwrites = Json::array();
    if (!there.is_empty) {
        overwrites.push_back({{"node", keeper.peer()},
                              {"backing", there.path},
                              {"data_bytes", there.data_bytes},
                              {"looks_empty", there.is_blank}});
    }
    return {{"loss", loss_of(keeper, there)},
            {"overwrites", std::move(overwrites)},
            {"source",
             {{"node", keeper.node()},
              {"backing", keeper.backing_path()},
              {"looks_empty", source.is_blank}}}};
}

std::string made_text(const VolumeKeeper& keeper, const ReplicaFiles& files) {
    return fmt::format("{} ({}) {} {} on {}", keeper.name(), format_size(files.size()),
                       files.backing_exists() ? "uses" : "has the new file", keeper.backing_path(),
                       keeper.node());
}

std::string content_words(const ReplicaFiles& files) {
    if (files.is_empty()) {
        return ", which is empty";
    }
    return files.looks_blank() ? ", keeping its content (a look at it found nothing but zeroes)"
                               : ", keeping its content";
}

/// `bytes`: what the nodes have to transfer to each other afterwards, at most.
Json plan_answer(const VolumeKeeper& keeper, const ReplicaFiles& files, const std::string& then,
                 std::uint64_t bytes) {
    Json would = Json::array();
    if (!files.backing_exists()) {
        would.push_back(fmt::format("make {} ({}) on {}", keeper.backing_path(),
                                    format_size(files.size()), keeper.node()));
    } else {
        would.push_back(fmt::format("use {} on {}{}", keeper.backing_path(), keeper.node(),
                                    content_words(files)));
    }
    if (files.closes_to_others()) {
        would.push_back(
            fmt::format("make {} readable by its owner only: chmod 600", keeper.backing_path()));
    }
    would.push_back(then);
    return {{"would", would}, {"bytes", bytes}, {"seconds", nullptr}};
}

Result<Json> finish(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                    ReplicaFiles& files, const std::string& text, const Stopwatch& watch,
                    Json answer = Json::object()) {
    files.keep();
    if (auto opened = keeper.open_standby(operation); !opened) {
        return Failure(opened.error());
    }
    const std::string loss = answer.value("loss", "");
    keeper.record("created", loss.empty() ? Severity::info : Severity::warning, text, loss);
    answer["text"] = text;
    answer["seconds"] = watch.seconds();
    return answer;
}

/// The peer has the volume: this node gets an empty replica of it, filled by the next resync. A
/// peer whose replica was never filled (a `create` that broke off) has nothing to give: then
/// this replica is the first, under the same identity.
Result<Json> join_peer(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                       ReplicaFiles& files, const ReplicaSummary& theirs,
                       const CreateOptions& options, const Stopwatch& watch) {
    if (auto fits = files.fit(theirs.size, ReplicaFiles::Longer::allowed); !fits) {
        return Failure(fits.error());
    }
    const bool is_source = theirs.state == ReplicaState::fresh && !theirs.last_active;
    if (!is_source && !files.is_empty()) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{} exists on {} already, and {} on {} holds {} that a resync would "
                              "overwrite",
                              keeper.name(), keeper.peer(), keeper.backing_path(), keeper.node(),
                              format_size(files.data_bytes())),
                  fmt::format("move {} away, or overwrite it: mirrorctl create {} --replace",
                              keeper.backing_path(), keeper.name())});
    }
    const std::string then =
        fmt::format("{} is filled from {} when they connect", keeper.node(), keeper.peer());
    if (options.dry_run) {
        Json plan = plan_answer(keeper, files, then, files.size());
        plan["loss"] = "";
        return plan;
    }
    // The peer may have gone on since it was asked. A replica that is to be filled counts for
    // nothing until a session has compared all of it; a source is made only for a peer that has no
    // content, which gets none but from here, or by force.
    Superblock block = is_source ? source_superblock(keeper, files.size())
                                 : first_superblock(keeper, files.size());
    block.volume = theirs.volume;
    block.lineage = theirs.lineage.empty() ? block.lineage : theirs.lineage;
    if (auto made = files.make(block); !made) {
        return Failure(made.error());
    }
    return finish(keeper, operation, files, made_text(keeper, files) + "; " + then, watch);
}

std::string then_words(const VolumeKeeper& keeper, const PeerBacking& there, const Source& source) {
    if (there.is_empty) {
        return fmt::format("make the replica on {}", keeper.peer());
    }
    return fmt::format("overwrite {} on {} with {}", there.path, keeper.peer(),
                       source.is_blank ? fmt::format("the zeroes of {}", keeper.node())
                                       : fmt::format("the data of {}", keeper.node()));
}

Result<Json> create_alone(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                          ReplicaFiles& files, const Superblock& block,
                          const CreateOptions& options, const Stopwatch& watch) {
    if (options.dry_run) {
        Json plan = plan_answer(keeper, files, fmt::format("leave {} alone", keeper.peer()), 0);
        plan["loss"] = "";
        return plan;
    }
    const std::string text = made_text(keeper, files);
    if (auto made = files.make(block); !made) {
        return Failure(made.error());
    }
    return finish(keeper, operation, files, text + "; the other replica has not been created yet",
                  watch);
}

Result<Json> create_first(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                          ReplicaFiles& files, const CreateOptions& options,
                          const Stopwatch& watch) {
    if (auto fits = files.fit_config(keeper); !fits) {
        return Failure(fits.error());
    }
    const Superblock block = source_superblock(keeper, files.size());
    const Source source{files.is_empty(), files.looks_blank()};
    if (options.local_only) {
        return create_alone(keeper, operation, files, block, options, watch);
    }
    const auto before = ask_peer_to_create(keeper, block, source, options, true);
    if (!before) {
        return Failure(before.error());
    }
    Json answer = destroyed(keeper, *before, source);
    if (options.dry_run) {
        const bool is_equal = source.is_empty && before->is_empty;
        answer.update(plan_answer(keeper, files, then_words(keeper, *before, source),
                                  is_equal ? 0 : files.size()));
        return answer;
    }
    const std::string text = made_text(keeper, files);
    if (auto made = files.make(block); !made) {
        return Failure(made.error());
    }
    // The peer looks at its backing once more. Where its answer is lost it may have the replica,
    // which was never filled: the next `create` here joins it.
    const auto there = ask_peer_to_create(keeper, block, source, options, false);
    if (!there) {
        return Failure(there.error());
    }
    const bool equal = source.is_empty && there->is_empty;
    return finish(keeper, operation, files,
                  fmt::format("{}; {}", text,
                              equal ? fmt::format("the replica on {} is equal", keeper.peer())
                                    : fmt::format("the replica on {} is filled when {} is promoted",
                                                  keeper.peer(), keeper.name())),
                  watch, std::move(answer));
}

}  // namespace

Result<Json> create(VolumeKeeper& keeper, const CreateOptions& options) {
    const auto operation = keeper.begin("create");
    if (!operation) {
        return Failure(operation.error());
    }
    const Stopwatch watch(keeper.context().clock);
    auto files = ReplicaFiles::plan(keeper, options.access());
    if (!files) {
        return Failure(files.error());
    }
    if (options.local_only) {
        return create_first(keeper, *operation, *files, options, watch);
    }
    auto theirs = look_at_peer(keeper);
    if (!theirs) {
        return Failure(theirs.error());
    }
    if (*theirs) {
        return join_peer(keeper, *operation, *files, **theirs, options, watch);
    }
    return create_first(keeper, *operation, *files, options, watch);
}

}  // namespace mirror::daemon
