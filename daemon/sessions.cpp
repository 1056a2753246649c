// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/sessions.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>

#include "core/base/json.hpp"
#include "core/control/mailbox.hpp"
#include "core/control/messages.hpp"
#include "core/engine/verify_record.hpp"
#include "core/lineage/handshake.hpp"
#include "daemon/audience.hpp"
#include "daemon/settings_diff.hpp"

namespace mirror::daemon {
namespace {

/// It goes into the event log.
constexpr std::size_t longest_reason = 4096;

/// A request of a session: which one, and the lineage it carries where it has one.
struct SessionRequest {
    SessionId session;
    Lineage lineage;
};

Result<SessionRequest> parse_session(const Json& request, bool with_lineage) {
    const auto session = control::id_field<SessionId>(request, "session");
    if (!session) {
        return Failure(session.error());
    }
    SessionRequest result{*session, {}};
    if (with_lineage) {
        const auto array = control::array_field(request, "lineage");
        if (!array) {
            return Failure(array.error());
        }
        auto lineage = control::decode_lineage(**array);
        if (!lineage) {
            return Failure(lineage.error());
        }
        result.lineage = std::move(*lineage);
    }
    return result;
}

Result<void> require_protocol(const VolumeKeeper& keeper, const Json& request) {
    const auto protocol = control::uint_field(request, "protocol");
    if (!protocol) {
        return Failure(protocol.error());
    }
    if (*protocol != control::protocol_version) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{} speaks protocol {}, {} speaks protocol {}", keeper.node(),
                              control::protocol_version, keeper.peer(), *protocol),
                  "install the same version of mirrordisk on both nodes"});
    }
    return {};
}

/// Whether the peer's mirrord has these settings: then it is its engine that lacks them.
bool has_them(VolumeKeeper& keeper, const Settings& ours) {
    const PeerView view = keeper.peers().view(keeper.peer());
    if (!view.reachable || !view.answer) {
        return false;
    }
    const auto theirs = view.answer->settings.find(keeper.name());
    return theirs != view.answer->settings.end() && once_made(theirs->second) == ours;
}

Result<void> compare_settings(VolumeKeeper& keeper, const Json& request) {
    const auto object = control::object_field(request, "settings");
    if (!object) {
        return Failure(object.error());
    }
    const auto theirs = settings_from_json(**object);
    if (!theirs) {
        return Failure(theirs.error());
    }
    const Settings ours = once_made(keeper.shared_settings());
    auto same = require_same_settings(keeper.name(), keeper.node(), ours, keeper.peer(),
                                      once_made(*theirs));
    return same || !has_them(keeper, ours)
               ? same
               : require_current_engine(keeper.name(), keeper.node(), ours, keeper.peer(),
                                        once_made(*theirs));
}

Result<ReplicaSummary> parse_peer_summary(const VolumeKeeper& keeper, const Json& request) {
    const auto object = control::object_field(request, "summary");
    if (!object) {
        return Failure(object.error());
    }
    auto theirs = control::decode_summary(**object);
    if (theirs && theirs->node != keeper.peer()) {
        return refuse_node(theirs->node, keeper.config(), keeper.node());
    }
    return theirs;
}

/// Its engine may not be ours yet, when it begins its first session.
constexpr std::chrono::milliseconds engine_patience{1500};
constexpr std::chrono::milliseconds engine_retry{20};
constexpr std::chrono::milliseconds proof_deadline{4000};

/// The session that the engine here has begun last; nothing: it is of an earlier version.
Result<std::optional<std::string>> ask_begun(VolumeKeeper& keeper) {
    const SteadyTime give_up = keeper.context().clock.steady_now() + engine_patience;
    for (;;) {
        keeper.engine().forget_status();
        const auto status = keeper.engine().status();
        const auto peer = status ? control::object_field(*status, "peer") : Failure(status.error());
        if (peer) {
            const auto begun = (*peer)->find("session_begun");
            return begun == (*peer)->end() || !begun->is_string()
                       ? std::optional<std::string>()
                       : std::optional(begun->get<std::string>());
        }
        if (keeper.context().clock.steady_now() >= give_up) {
            return Failure(peer.error());
        }
        std::this_thread::sleep_for(engine_retry);
    }
}

/// Besides the two nodes of the volume nobody is meant to have the key.
bool others_have_the_key(const VolumeKeeper& keeper) {
    return keeper.context().used().nodes.size() > 2;
}

/// Who denies the session keeps it out. Silence does where other nodes have the key, too; where
/// only the two do, an engine must have its mirror back while its mirrord is away.
Result<void> require_proof(VolumeKeeper& keeper, const SessionId& session) {
    const std::string& peer = keeper.peer();
    const bool is_strict = others_have_the_key(keeper);
    const auto answer = keeper.peers().ask(
        peer,
        {{"request", "session-proof"}, {"volume", keeper.name()}, {"session", to_string(session)}},
        is_strict ? proof_deadline : std::min(proof_deadline, keeper.config().peer_timeout / 3));
    if (!answer) {
        const Error& error = answer.error();
        // Or the node itself has answered, and is of a version that can't say more.
        if (error.kind == ErrorKind::invalid || (!is_strict && !was_reached(error))) {
            return {};
        }
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("a session was begun as {}, and {} does not confirm it: {}", peer,
                              peer, error.message),
                  fmt::format("make mirrord on {} reachable from {}", peer, keeper.node()),
                  /*os_error=*/0, was_reached(error) ? Ground::who : Ground::other});
    }
    const auto is_ours = answer->find("is_ours");
    if (is_ours != answer->end() && is_ours->is_boolean() && !is_ours->get<bool>()) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("a session of {} was begun as {}, which did not begin it",
                                         keeper.name(), peer),
                             "find out where it comes from: anyone with the cluster's key can try; "
                             "keys for each pair of nodes, or certificates, prevent that",
                             /*os_error=*/0, Ground::who});
    }
    return {};
}

template <typename T>
const Error* error_of(const Result<T>& result) {
    return result ? nullptr : &result.error();
}

Result<Json> answer_of(const Result<void>& done) {
    if (!done) {
        return Failure(done.error());
    }
    return Json::object();
}

}  // namespace

Result<Json> handshake(VolumeKeeper& keeper, const Json& request) {
    auto fitting = require_protocol(keeper, request).and_then([&] {
        return compare_settings(keeper, request);
    });
    if (!fitting) {
        return Failure(fitting.error());
    }
    const auto theirs = parse_peer_summary(keeper, request);
    if (!theirs) {
        return Failure(theirs.error());
    }
    // What is decided holds for these summaries: begin_session() looks at the role and the content
    // again, and the active begins anew where its own has changed.
    const auto ours = keeper.summary();
    if (!ours) {
        return Failure(ours.error());
    }
    const Decision decision = decide(*ours, *theirs);
    return Json{{"summary", control::encode(*ours)},
                {"action", to_string(decision.action)},
                {"reason", decision.reason}};
}

Result<Json> session_begin(VolumeKeeper& keeper, const Json& request, const Asking& asking) {
    const auto parsed = parse_session(request, false);
    const auto source = control::string_field(request, "source");
    const auto resync = control::bool_field_or(request, "resync", false);
    const auto step = control::step_field(request, "step");
    for (const Error* error :
         {error_of(parsed), error_of(source), error_of(resync), error_of(step)}) {
        if (error != nullptr) {
            return Failure(*error);
        }
    }
    if (!asking.is_proven) {
        if (auto proven = require_proof(keeper, parsed->session); !proven) {
            return Failure(proven.error());
        }
    }
    const auto lease = keeper.replica_now();
    if (!lease) {
        return Failure(lease.error());
    }
    auto begun = (*lease)->begin_session({parsed->session, *source, *resync, *step});
    if (begun) {
        keeper.record(
            "session-accepted", Severity::info,
            fmt::format("{} now writes to the replica of {} on {}{}", *source, keeper.name(),
                        keeper.node(), *resync ? ", starting with a resync" : ""),
            fmt::format("session {}", short_form(parsed->session)));
    }
    return answer_of(begun);
}

Result<Json> session_proof(VolumeKeeper& keeper, const Json& request) {
    const auto session = control::id_field<SessionId>(request, "session");
    if (!session) {
        return Failure(session.error());
    }
    const auto begun = ask_begun(keeper);
    if (!begun) {
        return Failure(begun.error());
    }
    return Json{{"is_ours", *begun ? Json(**begun == to_string(*session)) : Json()}};
}

Result<Json> session_synced(VolumeKeeper& keeper, const Json& request) {
    const auto parsed = parse_session(request, true);
    const auto step = control::step_field(request, "step");
    if (!parsed || !step) {
        return Failure(parsed ? step.error() : parsed.error());
    }
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    auto synced = (*lease)->session_synced(parsed->session, parsed->lineage, *step);
    if (synced) {  // in a session that may be over by now; it was so
        keeper.record("in-sync", Severity::info,
                      fmt::format("{} and {} are equal; every write goes to both", keeper.peer(),
                                  keeper.node()));
    }
    return answer_of(synced);
}

Result<Json> session_step(VolumeKeeper& keeper, const Json& request) {
    const auto parsed = parse_session(request, false);
    const auto step = control::step_field(request, "step");
    if (!parsed || !step) {
        return Failure(parsed ? step.error() : parsed.error());
    }
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    return answer_of((*lease)->take_step(parsed->session, *step));
}

Result<Json> session_incomplete(VolumeKeeper& keeper, const Json& request) {
    const auto parsed = parse_session(request, false);
    const auto lacking = control::uint_field(request, "lacking_bytes");
    const auto why = control::string_field(request, "why");
    if (!parsed || !lacking || !why) {
        return Failure(!parsed ? parsed.error() : !lacking ? lacking.error() : why.error());
    }
    if (why->size() > longest_reason) {
        return fail(ErrorKind::invalid, "why: longer than {} bytes", longest_reason);
    }
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    auto noted = (*lease)->session_incomplete(parsed->session, *lacking, *why);
    if (noted) {  // of a session that may be over by now; it was so
        keeper.record("resync-incomplete", Severity::warning, *why,
                      fmt::format("{} can't read them", keeper.peer()),
                      fmt::format("on {}: mirrorctl status {}", keeper.peer(), keeper.name()));
    }
    return answer_of(noted);
}

Result<Json> session_end(VolumeKeeper& keeper, const Json& request) {
    const auto parsed = parse_session(request, false);
    const auto reason = control::string_field(request, "reason");
    if (!parsed || !reason) {
        return Failure(!parsed ? parsed.error() : reason.error());
    }
    if (*reason != "demote" && *reason != "disconnect") {
        return fail(ErrorKind::invalid, "reason: must be demote or disconnect");
    }
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    return answer_of((*lease)->end_session(parsed->session, *reason == "disconnect"));
}

Result<Json> generation(VolumeKeeper& keeper, const Json& request) {
    const auto parsed = parse_session(request, true);
    // An active of an earlier version says nothing, and means both steps.
    const auto confirmed = control::bool_field_or(request, "confirmed", true);
    if (!parsed || !confirmed) {
        return Failure(parsed ? confirmed.error() : parsed.error());
    }
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    return answer_of((*lease)->adopt_generation(parsed->session, parsed->lineage, *confirmed));
}

Result<Json> verify_record(VolumeKeeper& keeper, const Json& request) {
    const auto parsed = parse_session(request, false);
    const auto object = control::object_field(request, "record");
    if (!parsed || !object) {
        return Failure(parsed ? object.error() : parsed.error());
    }
    const auto record = decode_verify_record(**object);
    if (!record) {
        return Failure(record.error().within("record"));
    }
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    const auto session = (*lease)->session();
    if (!session || session->id != parsed->session) {
        return fail(ErrorKind::refused, "that session has ended");
    }
    const Superblock block = (*lease)->superblock();
    if (record->volume != block.volume || record->size != block.size) {
        return fail(ErrorKind::refused, "the record is about another volume than {}",
                    keeper.name());
    }
    // The session may end while the file is written, and the next one send its record: a file that
    // both wrote does not fit its checksum, and costs a comparison that begins anew.
    return answer_of(
        save_verify_record(verify_record_path(keeper.home().state_dir, keeper.name()), *record));
}

}  // namespace mirror::daemon
