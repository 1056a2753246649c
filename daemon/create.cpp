// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/create.hpp"

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "daemon/replica_files.hpp"
#include "daemon/rto.hpp"
#include "daemon/settings_diff.hpp"

namespace mirror::daemon {
namespace {

constexpr std::chrono::seconds create_deadline{30};

Superblock first_superblock(const VolumeKeeper& keeper, std::uint64_t size) {
    Superblock block;
    block.volume_name = keeper.name();
    block.node = keeper.node();
    block.peer = keeper.peer();
    block.size = size;
    block.created = keeper.context().clock.wall_now();
    return block;
}

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

/// What the peer has of the volume; nothing when it has none.
Result<std::optional<ReplicaSummary>> look_at_peer(VolumeKeeper& keeper) {
    const auto answer = keeper.peers().ask_status(keeper.peer());
    if (!answer) {
        Error error = answer.error();
        error.message = fmt::format("{} can't be reached: {}", keeper.peer(), error.message);
        error.remedy = fmt::format("start mirrord on {}, or mirrorctl create {} --local-only",
                                   keeper.peer(), keeper.name());
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
    const Settings ours = keeper.config().shared_settings();
    auto same =
        require_same_settings(keeper.name(), keeper.node(), made ? once_made(ours) : ours,
                              keeper.peer(), made ? once_made(theirs->second) : theirs->second);
    if (!same) {
        return Failure(same.error());
    }
    return volume == answer->volumes.end() ? std::optional<ReplicaSummary>()
                                           : std::optional(volume->second.summary);
}

Result<Json> ask_peer_to_create(VolumeKeeper& keeper, const Superblock& ours, bool source_empty,
                                const CreateOptions& options, bool dry_run) {
    return keeper.peers().ask(keeper.peer(),
                              {{"request", "create-replica"},
                               {"volume", keeper.name()},
                               {"volume_id", to_string(ours.volume)},
                               {"size", ours.size},
                               {"source", keeper.node()},
                               {"settings", keeper.config().shared_settings()},
                               {"lineage", control::encode(ours.lineage)},
                               {"source_empty", source_empty},
                               {"overwrite", options.overwrite_peer},
                               {"dry_run", dry_run}},
                              create_deadline);
}

std::string made_text(const VolumeKeeper& keeper, const ReplicaFiles& files) {
    return fmt::format("{} ({}) {} {} on {}", keeper.name(), format_size(files.size()),
                       files.backing_exists() ? "uses" : "has the new file", keeper.backing_path(),
                       keeper.node());
}

Json plan_answer(const VolumeKeeper& keeper, const ReplicaFiles& files, const std::string& then) {
    Json would = Json::array();
    if (!files.backing_exists()) {
        would.push_back(fmt::format("make {} ({}) on {}", keeper.backing_path(),
                                    format_size(files.size()), keeper.node()));
    } else {
        would.push_back(fmt::format("use {} on {}{}", keeper.backing_path(), keeper.node(),
                                    files.is_empty() ? "" : ", keeping its content"));
    }
    would.push_back(then);
    return {{"would", would}, {"bytes", files.size()}, {"seconds", nullptr}};
}

Result<Json> finish(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                    ReplicaFiles& files, const std::string& text, const Stopwatch& watch) {
    files.keep();
    if (auto opened = keeper.open_standby(operation); !opened) {
        return Failure(opened.error());
    }
    keeper.record("created", Severity::info, text);
    return Json{{"text", text}, {"seconds", watch.seconds()}};
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
                  fmt::format("move {} away", keeper.backing_path())});
    }
    const std::string then =
        fmt::format("{} is filled from {} when they connect", keeper.node(), keeper.peer());
    if (options.dry_run) {
        return plan_answer(keeper, files, then);
    }
    Superblock block = is_source ? source_superblock(keeper, files.size())
                                 : first_superblock(keeper, files.size());
    block.volume = theirs.volume;
    block.lineage = theirs.lineage.empty() ? block.lineage : theirs.lineage;
    if (auto made = files.make(block); !made) {
        return Failure(made.error());
    }
    return finish(keeper, operation, files, made_text(keeper, files) + "; " + then, watch);
}

Result<Json> create_first(VolumeKeeper& keeper, const VolumeKeeper::Operation& operation,
                          ReplicaFiles& files, const CreateOptions& options,
                          const Stopwatch& watch) {
    if (auto fits = files.fit_config(keeper); !fits) {
        return Failure(fits.error());
    }
    const Superblock block = source_superblock(keeper, files.size());
    if (!options.local_only) {
        const auto possible = ask_peer_to_create(keeper, block, files.is_empty(), options, true);
        if (!possible) {
            return Failure(possible.error());
        }
    }
    if (options.dry_run) {
        return plan_answer(keeper, files,
                           options.local_only
                               ? fmt::format("leave {} alone", keeper.peer())
                               : fmt::format("make the replica on {}", keeper.peer()));
    }
    const std::string text = made_text(keeper, files);
    const bool was_empty = files.is_empty();
    if (auto made = files.make(block); !made) {
        return Failure(made.error());
    }
    if (options.local_only) {
        return finish(keeper, operation, files, text + "; the other replica is not made yet",
                      watch);
    }
    const auto there = ask_peer_to_create(keeper, block, was_empty, options, false);
    if (!there) {
        return Failure(there.error());
    }
    const bool equal = was_empty && there->value("empty", false);
    return finish(keeper, operation, files,
                  fmt::format("{}; {}", text,
                              equal ? fmt::format("the replica on {} is equal", keeper.peer())
                                    : fmt::format("the replica on {} is filled when {} is promoted",
                                                  keeper.peer(), keeper.name())),
                  watch);
}

/// Everything that another node says about the replica to be made.
struct ReplicaRequest {
    Superblock block;
    bool source_empty = false;
    bool overwrite = false;
    bool dry_run = false;
};

Result<ReplicaRequest> parse_replica_request(const VolumeKeeper& keeper, const Json& request) {
    const auto id = control::id_field<VolumeId>(request, "volume_id");
    const auto size = control::uint_field(request, "size");
    const auto source = control::string_field(request, "source");
    const auto settings = control::object_field(request, "settings");
    const auto lineage = control::array_field(request, "lineage");
    const auto source_empty = control::bool_field_or(request, "source_empty", false);
    const auto overwrite = control::bool_field_or(request, "overwrite", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!id || !size || !source || !settings || !lineage || !source_empty || !overwrite ||
        !dry_run) {
        return fail(ErrorKind::invalid, "create-replica: a field is missing or of the wrong type");
    }
    auto decoded = control::decode_lineage(**lineage);
    const auto theirs = settings_from_json(**settings);
    if (!decoded || !theirs) {
        return Failure(decoded ? theirs.error() : decoded.error());
    }
    if (id->is_none()) {
        return fail(ErrorKind::invalid, "create-replica: volume_id is empty");
    }
    auto same = require_same_settings(keeper.name(), keeper.node(),
                                      keeper.config().shared_settings(), keeper.peer(), *theirs);
    if (!same) {
        return Failure(same.error());
    }
    ReplicaRequest result{first_superblock(keeper, *size), *source_empty, *overwrite, *dry_run};
    result.block.volume = *id;
    result.block.lineage = std::move(*decoded);
    return result;
}

}  // namespace

Result<Json> create(VolumeKeeper& keeper, const CreateOptions& options) {
    const auto operation = keeper.begin("create");
    if (!operation) {
        return Failure(operation.error());
    }
    const Stopwatch watch(keeper.context().clock);
    auto files = ReplicaFiles::plan(keeper);
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

Result<Json> create_replica(VolumeKeeper& keeper, const Json& request) {
    auto wanted = parse_replica_request(keeper, request);
    if (!wanted) {
        return Failure(wanted.error());
    }
    const auto operation = keeper.begin("create");
    if (!operation) {
        return Failure(operation.error());
    }
    auto files = ReplicaFiles::plan(keeper);
    if (!files) {
        return Failure(files.error());
    }
    if (auto fits = files->fit(wanted->block.size, ReplicaFiles::Longer::refused); !fits) {
        return Failure(fits.error());
    }
    if (!files->is_empty() && !wanted->overwrite) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{} on {} holds {} of data that would be lost", keeper.backing_path(),
                              keeper.node(), format_size(files->data_bytes())),
                  fmt::format("mirrorctl create {} --overwrite-peer, or move the file away",
                              keeper.name())});
    }
    const Json answer = {{"empty", files->is_empty()}};
    if (wanted->dry_run) {
        return answer;
    }
    if (wanted->source_empty && files->is_empty()) {
        wanted->block.state = ReplicaState::up_to_date;
        wanted->block.steps = first_steps;
        wanted->block.synced_at = wanted->block.created;
    }
    if (auto made = files->make(wanted->block); !made) {
        return Failure(made.error());
    }
    files->keep();
    if (auto opened = keeper.open_standby(*operation); !opened) {
        return Failure(opened.error());
    }
    keeper.record("created", Severity::info,
                  fmt::format("the replica of {} on {} was made for {}", keeper.name(),
                              keeper.node(), keeper.peer()));
    return answer;
}

}  // namespace mirror::daemon
