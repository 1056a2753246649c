// SPDX-License-Identifier: BSD-3-Clause
#include "tools/client.hpp"

#include <cerrno>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/control/mailbox.hpp"
#include "core/control/pages.hpp"

namespace mirror::tools {
namespace {

Error not_running(const NodeConfig& node, const std::string& reason) {
    return Error{ErrorKind::unreachable,
                 fmt::format("mirrord of node {} is not running ({}: {})", node.name,
                             node.daemon_socket(), reason),
                 "start it: systemctl start mirrord"};
}

/// A socket that nobody listens on is a daemon that died; anything else is said as it is.
Error connect_error(const NodeConfig& node, const Error& cause) {
    const std::string refused = std::generic_category().message(ECONNREFUSED);
    if (cause.os_error == ECONNREFUSED || cause.message.ends_with(refused)) {
        return not_running(node, refused);
    }
    return Error{ErrorKind::unreachable, cause.message, cause.remedy, cause.os_error};
}

/// The reason in the system's words, before the NBD library wraps it in its own.
Result<void> check_socket(const NodeConfig& node, const std::string& control_group) {
    if (::access(node.daemon_socket().c_str(), R_OK | W_OK) == 0) {
        return {};
    }
    const int reason = errno;
    if (reason == EACCES) {
        return Failure(Error{
            ErrorKind::unreachable, fmt::format("no permission to use {}", node.daemon_socket()),
            control_group.empty() ? "run mirrorctl as root; control_group in the configuration "
                                    "can name a group that needs no root"
                                  : fmt::format("run mirrorctl as root, or join the group {} and "
                                                "log in again",
                                                control_group),
            reason});
    }
    return Failure(not_running(node, std::generic_category().message(reason)));
}

}  // namespace

Result<Json> ask_status_of_all(Client& client, std::chrono::milliseconds deadline) {
    const auto each = [&](const Json& request) { return client.ask(request, deadline); };
    return control::ask_for_pages(each, {{"request", "status"}}, {"volumes"});
}

Result<Json> DaemonClient::ask(const Json& request, std::chrono::milliseconds deadline) {
    if (auto usable = check_socket(node_, control_group_); !usable) {
        return Failure(usable.error());
    }
    const nbd::Address address{.tcp = {}, .unix_path = node_.daemon_socket()};
    const std::string name = "mirrord of node " + node_.name;
    auto connected = control::MailboxClient::connect(address, name, deadline);
    if (!connected) {
        return Failure(connect_error(node_, connected.error()));
    }
    return connected->ask(request);
}

}  // namespace mirror::tools
