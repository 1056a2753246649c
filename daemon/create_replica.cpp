// SPDX-License-Identifier: BSD-3-Clause
// `create` as the other node asks for it: the replica here, and whether its backing may be
// overwritten.
#include "core/base/json.hpp"
#include "core/config/words.hpp"
#include "core/control/messages.hpp"
#include "daemon/create.hpp"
#include "daemon/settings_diff.hpp"

namespace mirror::daemon {
namespace {

/// Everything that another node says about the replica to be made.
struct ReplicaRequest {
    Superblock block;
    bool source_empty = false;  ///< zeroes from end to end
    bool source_blank = false;  ///< as far as a look at it tells
    bool overwrite = false;
    bool from_empty = false;
    bool dry_run = false;
    ReplicaFiles::Access access = ReplicaFiles::Access::ours_alone;
};

Result<ReplicaRequest> parse_replica_request(const VolumeKeeper& keeper, const Json& request) {
    const auto id = control::id_field<VolumeId>(request, "volume_id");
    const auto size = control::uint_field(request, "size");
    const auto source = control::string_field(request, "source");
    const auto settings = control::object_field(request, "settings");
    const auto lineage = control::array_field(request, "lineage");
    const auto source_empty = control::bool_field_or(request, "source_empty", false);
    const auto source_blank = control::bool_field_or(request, "source_blank", false);
    const auto overwrite = control::bool_field_or(request, "overwrite", false);
    const auto from_empty = control::bool_field_or(request, "from_empty", false);
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    const auto accept_mode = control::bool_field_or(request, "accept_mode", false);
    if (!id || !size || !source || !settings || !lineage || !source_empty || !source_blank ||
        !overwrite || !from_empty || !dry_run || !accept_mode) {
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
    auto same = require_same_settings(keeper.name(), keeper.node(), keeper.shared_settings(),
                                      keeper.peer(), *theirs);
    if (!same) {
        return Failure(same.error());
    }
    ReplicaRequest result{
        first_superblock(keeper, *size),
        *source_empty,
        *source_blank,
        *overwrite,
        *from_empty,
        *dry_run,
        *accept_mode ? ReplicaFiles::Access::as_it_is : ReplicaFiles::Access::ours_alone};
    result.block.volume = *id;
    result.block.lineage = std::move(*decoded);
    return result;
}

/// What to do about data that the other node may not give up.
std::string by_own_users(const VolumeKeeper& keeper) {
    return fmt::format(
        "mirrorctl create {0} --local-only on {2}, then on {1}: mirrorctl create {0} --replace; or "
        "move the file away; or remote_verbs = \"full\" for {0} on {1}, then mirrorctl create {0} "
        "--overwrite-peer on {2}",
        keeper.name(), keeper.node(), keeper.peer());
}

/// Decided here, where the data are, each time that the peer asks: whoever sits at an empty node
/// and means this one's data to be kept must not lose them to a wrong node's name. Nothing of them
/// is kept, so that it is not for the other node to say, unless this one's configuration lets it.
Result<void> may_overwrite(const VolumeKeeper& keeper, const ReplicaRequest& wanted,
                           const ReplicaFiles& files, bool is_blank, const Asking& asking) {
    if (files.is_empty() || (wanted.overwrite && is_blank)) {
        return {};
    }
    const std::string& here = keeper.node();
    const std::string held =
        fmt::format("{} on {} holds {} of data that would be lost", keeper.backing_path(), here,
                    format_size(files.data_bytes()));
    const bool insists = wanted.overwrite && wanted.from_empty;
    if (wanted.source_blank && !is_blank && !insists) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{}: {} looks empty, so zeroes would take their place", held,
                              keeper.peer()),
                  fmt::format("to keep them, on {}: mirrorctl create {}{}; to lose them: mirrorctl "
                              "create {} --overwrite-peer --from-empty",
                              here, keeper.name(), wanted.source_empty ? "" : " --overwrite-peer",
                              keeper.name())});
    }
    if (wanted.overwrite && asking.may_all()) {
        return {};
    }
    if (wanted.overwrite) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format(
                      "{}, and {} lets only its own users discard it (remote_verbs = \"{}\" there)",
                      held, here, to_word(asking.remote)),
                  by_own_users(keeper), /*os_error=*/0, Ground::who});
    }
    return Failure(Error{ErrorKind::refused, held,
                         asking.may_all()
                             ? fmt::format("mirrorctl create {} --overwrite-peer, or move the "
                                           "file away",
                                           keeper.name())
                             : by_own_users(keeper)});
}

}  // namespace

Result<Json> create_replica(VolumeKeeper& keeper, const Json& request, const Asking& asking) {
    auto wanted = parse_replica_request(keeper, request);
    if (!wanted) {
        return Failure(wanted.error());
    }
    // From here on nothing is let go: the peer's dry run was another request, and is not relied on.
    const auto operation = keeper.begin("create");
    if (!operation) {
        return Failure(operation.error());
    }
    auto files = ReplicaFiles::plan(keeper, wanted->access);
    if (!files) {
        return Failure(files.error());
    }
    if (auto fits = files->fit(wanted->block.size, ReplicaFiles::Longer::refused); !fits) {
        return Failure(fits.error());
    }
    const bool is_blank = files->looks_blank();
    if (auto allowed = may_overwrite(keeper, *wanted, *files, is_blank, asking); !allowed) {
        return Failure(allowed.error());
    }
    const Json answer = {{"empty", files->is_empty()},
                         {"blank", is_blank},
                         {"data_bytes", files->is_empty() ? 0 : files->data_bytes()}};
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
