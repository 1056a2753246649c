// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/requests.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <limits>
#include <optional>
#include <string_view>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/messages.hpp"
#include "core/events/asked_by.hpp"
#include "daemon/audience.hpp"
#include "daemon/check.hpp"
#include "daemon/event_hooks.hpp"
#include "daemon/verbs.hpp"

namespace mirror::daemon {
namespace {

/// A volume that was taken out of the configuration while it was in use can be ended, and nothing
/// else: the other node may not know it either.
Result<void> require_configured(const Rule& rule, const VolumeKeeper& keeper) {
    constexpr std::array<std::string_view, 7> endings{
        "demote", "detach", "disconnect", "attach", "restart-engine", "undo-drop", "session-proof"};
    if (keeper.is_configured() ||
        std::find(endings.begin(), endings.end(), rule.request) != endings.end()) {
        return {};
    }
    return Failure(
        Error{ErrorKind::refused,
              fmt::format("{} is not in the configuration of {}", keeper.name(), keeper.node()),
              fmt::format(
                  "put it back in the file, then mirrorctl reload; or end it: mirrorctl demote {}",
                  keeper.name()),
              /*os_error=*/0, Ground::state});
}

/// What a node says of itself, where the request has a field for it; else nothing.
std::string claimed_node(const Rule& rule, const Json& request) {
    const auto field = request.find(rule.claim);
    return rule.claim.empty() || field == request.end() || !field->is_string()
               ? std::string()
               : field->get<std::string>().substr(0, 64);
}

std::optional<uid_t> claimed_user(const Json& request) {
    const auto uid = control::optional_uint_field(request, PeerWatch::asker_field);
    return uid && *uid && **uid <= std::numeric_limits<uid_t>::max()
               ? std::optional(static_cast<uid_t>(**uid))
               : std::nullopt;
}

/// For the events of what it asks for.
AskedBy asker_of(const nbd::Client& client, const Rule* rule, const Json& request) {
    if (client.address == "unix") {
        return {.kind = AskedBy::Kind::local, .uid = client.uid};
    }
    AskedBy who{.kind = AskedBy::Kind::node,
                .node = client.node,
                .is_proven = !client.node.empty(),
                .key = client.key,
                .address = client.address,
                .for_uid = claimed_user(request)};
    if (const std::string claimed = rule == nullptr ? "" : claimed_node(*rule, request);
        who.node.empty() && is_valid_name(claimed)) {
        who.node = claimed;
    }
    return who;
}

}  // namespace

Result<Json> Requests::handle(const Json& request, const nbd::Client& client) {
    const auto name = control::string_field(request, "request");
    if (!name) {
        return Failure(name.error());
    }
    // The JSON library throws on a value of another type than was checked: ours to answer for, but
    // not a reason to end the process.
    try {
        const AskedByScope scope(asker_of(client, rule_of(*name), request));
        Result<Json> answer = dispatch(*name, request, client);
        if (!answer && answer.error().ground == Ground::who) {
            refusals_.note(client, answer.error());
        }
        return answer;
    } catch (const std::exception& error) {
        log(LogLevel::error, "request {} from {}: {}", *name, client.address, error.what());
        return fail(ErrorKind::internal, "request {} failed: {}", *name, error.what());
    }
}

Result<Json> Requests::dispatch(const std::string& name, const Json& request,
                                const nbd::Client& client) {
    const Rule* rule = rule_of(name);
    if (rule == nullptr) {
        return fail(ErrorKind::invalid, "there is no request '{}'", name.substr(0, 60));
    }
    const Who who = who_is(client, context_.control_group);
    if (who == Who::other_user) {
        return refuse_user(client, context_.used());
    }
    if (!places_for(*rule, who).any()) {
        return refuse_asker(*rule, who, client);
    }
    return rule->has_volume ? ask_volume(*rule, request, client) : ask_node(*rule, request, client);
}

Result<Json> Requests::ask_node(const Rule& rule, const Json& request, const nbd::Client& client) {
    const std::string_view name = rule.request;
    if (name == "peer-status") {
        return answers_.peer_status(request, claimed_node(rule, request), client);
    }
    return name == "version"            ? Result<Json>(answers_.version())
           : name == "check"            ? Result<Json>(check(context_, peers_, keepers_))
           : name == "test-event-hooks" ? test_event_hooks(request)
           : name == "reload"           ? reload(request)
           : name == "demote-all"       ? demote_all_as_asked(keepers_, context_, request)
                                        : answers_.status(request);
}

Result<Json> Requests::reload(const Json& request) const {
    return reload_ ? reload_(request)
                   : fail(ErrorKind::internal, "nobody carries out the request reload");
}

Result<Json> Requests::ask_volume(const Rule& rule, const Json& request,
                                  const nbd::Client& client) {
    const auto volume = control::string_field(request, "volume");
    if (!volume) {
        return Failure(volume.error());
    }
    const auto found = keeper(*volume);
    if (!found) {
        return Failure(found.error());
    }
    VolumeKeeper& keeper = **found;
    const Who who = who_is(client, context_.control_group, keeper.peer());
    const Places places = places_for(rule, who);
    if (!places.any()) {
        return refuse_node(describe(client), keeper.config(), keeper.node());
    }
    // Root, too, speaks for the peer with these.
    if (const std::string claimed = claimed_node(rule, request);
        !claimed.empty() && claimed != keeper.peer()) {
        return refuse_node(claimed, keeper.config(), keeper.node());
    }
    if (const Place place = keeper.place(); !places.has(place)) {
        return refuse_place(places, place, keeper.config(), keeper.node());
    }
    if (auto allowed = require_configured(rule, keeper); !allowed) {
        return Failure(allowed.error());
    }
    const Asking asking{is_local(who), remote_verbs_of(context_.node, keeper.config()),
                        is_local(who) || !client.node.empty()};
    if (auto allowed = require_remote(rule, asking, keeper.config(), keeper.node()); !allowed) {
        return Failure(allowed.error());
    }
    const VolumeHandler handler = handler_of(rule.request);
    if (handler == nullptr) {
        return fail(ErrorKind::internal, "nothing here carries out request {}", rule.request);
    }
    return handler(keeper, request, asking);
}

Result<Json> Requests::test_event_hooks(const Json& request) const {
    constexpr std::chrono::minutes patience{5};
    const auto volume = control::optional_string_field(request, "volume");
    if (!volume) {
        return Failure(volume.error());
    }
    if (*volume) {
        if (const auto found = keeper(**volume); !found) {
            return Failure(found.error());
        }
    }
    if (event_hooks_ == nullptr) {
        return fail(ErrorKind::internal, "events are handed to no program");
    }
    return event_hooks_->test(volume->value_or(""), patience);
}

}  // namespace mirror::daemon
