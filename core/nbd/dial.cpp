// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/dial.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <system_error>

#include "core/base/clock.hpp"
#include "core/base/units.hpp"
#include "core/nbd/tcp_options.hpp"

namespace mirror::nbd {
namespace {

using std::chrono::milliseconds;

/// Rounded up, so that a wait of less than a millisecond does not become a busy loop.
int poll_timeout(SteadyTime until) {
    const auto left = std::chrono::ceil<milliseconds>(until - std::chrono::steady_clock::now());
    return static_cast<int>(std::clamp<milliseconds::rep>(left.count(), 0, 3'600'000));
}

bool is_past(SteadyTime until) {
    return std::chrono::steady_clock::now() >= until;
}

/// "beta (10.0.0.2:10809)"
std::string describe(const Address& address, const LinkOptions& options) {
    return options.peer_name.empty() ? address.text()
                                     : fmt::format("{} ({})", options.peer_name, address.text());
}

struct Dialling {
    std::string who;
    milliseconds timeout;
    SteadyTime until;
    bool is_local;

    [[nodiscard]] Failure timed_out(std::string_view step) const {
        return fail(ErrorKind::timed_out, "{}: {} within {}", who, step, format_duration(timeout));
    }
    [[nodiscard]] Failure not_connected(int os_error) const {
        const bool denied = os_error == EACCES || os_error == EPERM;
        // Only a Unix socket has permissions; asking again would not help.
        return Failure(
            Error{.kind = denied && is_local ? ErrorKind::refused : ErrorKind::unreachable,
                  .message = fmt::format("{}: cannot connect: {}", who,
                                         std::generic_category().message(os_error)),
                  .remedy = step_for(os_error, denied),
                  .os_error = os_error});
    }
    [[nodiscard]] std::string step_for(int os_error, bool denied) const {
        if (is_local) {
            return denied ? "run it as root" : "";
        }
        if (denied) {
            return "a firewall of this machine forbids it";
        }
        return os_error == ECONNREFUSED
                   ? "that machine is up, but nothing listens at this address: start mirrord on "
                     "it, or run mirrorctl check there"
                   : "";
    }
};

/// 0, or the errno; ETIMEDOUT when `until` has come.
int finish_connect(int socket, SteadyTime until) {
    while (true) {
        pollfd wanted{.fd = socket, .events = POLLOUT, .revents = 0};
        const int ready = ::poll(&wanted, 1, poll_timeout(until));
        if (ready > 0) {
            int os_error = 0;
            socklen_t length = sizeof os_error;
            return ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &os_error, &length) == 0 ? os_error
                                                                                       : errno;
        }
        if (ready < 0 && errno != EINTR) {
            return errno;
        }
        if (is_past(until)) {
            return ETIMEDOUT;
        }
    }
}

int connect_socket(int socket, const sockaddr* address, socklen_t length, SteadyTime until) {
    while (::connect(socket, address, length) != 0) {
        if (errno == EINPROGRESS || errno == EINTR) {
            return finish_connect(socket, until);
        }
        if (errno != EAGAIN) {
            return errno;
        }
        // A Unix socket whose backlog is full offers nothing to poll for (connect(2), EAGAIN).
        if (is_past(until)) {
            return ETIMEDOUT;
        }
        ::poll(nullptr, 0, std::min(10, poll_timeout(until)));
    }
    return 0;
}

Fd new_socket(int family) {
    return Fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

Result<Fd> dial_unix(const std::string& path, const Dialling& dialling) {
    sockaddr_un address{};
    if (path.size() >= sizeof address.sun_path) {
        return fail(ErrorKind::invalid, "{}: the path of a Unix socket has at most {} bytes",
                    dialling.who, sizeof address.sun_path - 1);
    }
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    Fd socket = new_socket(AF_UNIX);
    if (!socket.is_open()) {
        return dialling.not_connected(errno);
    }
    const int os_error = connect_socket(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                                        sizeof address, dialling.until);
    if (os_error == ETIMEDOUT) {
        return dialling.timed_out("no connection");
    }
    if (os_error != 0) {
        return dialling.not_connected(os_error);
    }
    return socket;
}

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressList> resolve(const Endpoint& endpoint, const Dialling& dialling) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const std::string port = std::to_string(endpoint.port);
    const int status = ::getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &found);
    if (status != 0) {
        return fail(ErrorKind::unreachable, "{}: cannot look up '{}': {}", dialling.who,
                    endpoint.host,
                    status == EAI_SYSTEM ? std::generic_category().message(errno)
                                         : std::string(::gai_strerror(status)));
    }
    return AddressList(found, ::freeaddrinfo);
}

/// Each address gets an equal part of the time that is left, so that a dead first one does not
/// use up the time of the others.
Result<Fd> dial_tcp(const Endpoint& endpoint, milliseconds silence, const Dialling& dialling) {
    Result<AddressList> found = resolve(endpoint, dialling);
    if (!found) {
        return Failure(std::move(found.error()));
    }
    int candidates = 0;
    for (const addrinfo* entry = found->get(); entry != nullptr; entry = entry->ai_next) {
        ++candidates;
    }
    int os_error = ETIMEDOUT;
    for (const addrinfo* entry = found->get(); entry != nullptr; entry = entry->ai_next) {
        const SteadyTime now = std::chrono::steady_clock::now();
        const SteadyTime until = now + (dialling.until - now) / candidates--;
        Fd socket = new_socket(entry->ai_family);
        if (!socket.is_open()) {
            os_error = errno;
            continue;
        }
        set_tcp_options(socket.get(), silence);
        probe_often(socket.get());
        os_error = connect_socket(socket.get(), entry->ai_addr, entry->ai_addrlen, until);
        if (os_error == 0) {
            return socket;
        }
    }
    if (os_error == ETIMEDOUT) {
        return dialling.timed_out("no connection");
    }
    return dialling.not_connected(os_error);
}

}  // namespace

std::string Address::text() const {
    return unix_path.empty() ? tcp.text() : unix_path;
}

Result<OpenedExport> open_export(const Address& address, const std::string& export_name,
                                 const LinkOptions& options) {
    const bool is_local = !address.unix_path.empty();
    const Dialling dialling{
        .who = describe(address, options),
        .timeout = options.connect_timeout,
        .until = std::chrono::steady_clock::now() + options.connect_timeout,
        .is_local = is_local,
    };
    Result<Fd> socket = is_local ? dial_unix(address.unix_path, dialling)
                                 : dial_tcp(address.tcp, options.silence, dialling);
    if (!socket) {
        return Failure(std::move(socket.error()));
    }
    SocketStream stream(std::move(*socket));
    ClientHandshake handshake(stream, dialling.who, is_local ? nullptr : address.tls.get(),
                              address.node, {.until = dialling.until});
    const Result<ExportFacts> facts = handshake.run(export_name);
    if (!facts) {
        return facts.error().kind == ErrorKind::timed_out
                   ? dialling.timed_out("no answer to the NBD handshake")
                   : Failure(facts.error());
    }
    OpenedExport opened{.socket = Fd(), .tls = std::nullopt, .facts = *facts};
    if (const auto encrypted = handshake.take_encrypted()) {
        opened.tls = encrypted->take_session();
    }
    opened.socket = stream.release();
    set_tcp_options(opened.socket.get(), options.silence);
    return opened;
}

}  // namespace mirror::nbd
