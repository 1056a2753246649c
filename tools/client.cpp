// SPDX-License-Identifier: BSD-3-Clause
#include "tools/client.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

#include "core/control/mailbox.hpp"

namespace mirror::tools {
namespace {

constexpr std::chrono::milliseconds connect_deadline{5000};

Error not_running(const NodeConfig& node, const std::string& reason) {
    return Error{ErrorKind::unreachable,
                 fmt::format("mirrord of node {} is not running ({}: {})", node.name,
                             node.daemon_socket(), reason),
                 "start it: systemctl start mirrord"};
}

/// The reason in the system's words, before the NBD library wraps it in its own.
Result<void> check_socket(const NodeConfig& node) {
    if (::access(node.daemon_socket().c_str(), R_OK | W_OK) == 0) {
        return {};
    }
    const int reason = errno;
    if (reason == EACCES) {
        return Failure(Error{ErrorKind::unreachable,
                             fmt::format("no permission to use {}", node.daemon_socket()),
                             "run mirrorctl as root", reason});
    }
    return Failure(not_running(node, std::generic_category().message(reason)));
}

}  // namespace

Result<Json> DaemonClient::ask(const Json& request, std::chrono::milliseconds deadline) {
    if (auto usable = check_socket(node_); !usable) {
        return Failure(usable.error());
    }
    const nbd::Address address{.tcp = {}, .unix_path = node_.daemon_socket()};
    const std::string name = "mirrord of node " + node_.name;
    auto probe =
        control::MailboxClient::connect(address, name, std::max(deadline, connect_deadline));
    if (!probe) {
        return Failure(not_running(node_, probe.error().message));
    }
    return probe->ask(request);
}

}  // namespace mirror::tools
