// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/dial.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <system_error>
#include <tuple>

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

    [[nodiscard]] Failure timed_out(std::string_view step) const {
        return fail(ErrorKind::timed_out, "{}: {} within {}", who, step, format_duration(timeout));
    }
    [[nodiscard]] Failure not_connected(int os_error) const {
        // Only a Unix socket has permissions; asking again would not help.
        const bool denied = os_error == EACCES || os_error == EPERM;
        return Failure(Error{.kind = denied ? ErrorKind::refused : ErrorKind::unreachable,
                             .message = fmt::format("{}: cannot connect: {}", who,
                                                    std::generic_category().message(os_error)),
                             .remedy = denied ? "run it as root" : "",
                             .os_error = os_error});
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

/// libnbd's errors name the meaning of a refusal; the server's own sentence only goes to the
/// debug output. So debugging is on during the handshake, for this one line.
class ServerWords {
  public:
    explicit ServerWords(nbd_handle* handle) : handle_(handle) {
        std::ignore = ::nbd_set_debug_callback(
            handle, nbd_debug_callback{.callback = &ServerWords::line, .user_data = this});
        std::ignore = ::nbd_set_debug(handle, true);
    }
    ~ServerWords() {
        std::ignore = ::nbd_set_debug(handle_, false);
        std::ignore = ::nbd_clear_debug_callback(handle_);
    }
    ServerWords(const ServerWords&) = delete;
    ServerWords& operator=(const ServerWords&) = delete;

    [[nodiscard]] const std::string& text() const noexcept { return text_; }

  private:
    static int line(void* self, const char*, const char* message) noexcept {
        constexpr std::string_view mark = "server error message: ";
        const std::string_view text = message;
        if (const std::size_t at = text.find(mark); at != std::string_view::npos) {
            try {
                static_cast<ServerWords*>(self)->keep(text.substr(at + mark.size()));
            } catch (const std::bad_alloc&) {  // the words are a courtesy
            }
        }
        return 0;
    }

    /// Foreign text on its way to a terminal or a log: one line, no control characters.
    void keep(std::string_view words) {
        text_ = words.substr(0, 400);
        std::replace_if(
            text_.begin(), text_.end(),
            [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }, '?');
    }

    nbd_handle* handle_;
    std::string text_;
};

Failure handshake_failed(const Dialling& dialling, const std::string& export_name,
                         const std::string& reason, int os_error, const std::string& words) {
    const bool unknown = os_error == ENOENT;
    if (unknown || !words.empty() || reason.find("policy") != std::string::npos) {
        const std::string& why = words.empty() ? reason : words;
        return Failure(Error{.kind = ErrorKind::refused,
                             .message = fmt::format("{}: refuses the export '{}': {}", dialling.who,
                                                    export_name, why),
                             .os_error = os_error});
    }
    const bool gone = os_error == ECONNRESET || os_error == EPIPE || reason.empty() ||
                      reason.find("disconnected") != std::string::npos;
    return Failure(
        Error{.kind = gone ? ErrorKind::unreachable : ErrorKind::protocol,
              .message = fmt::format("{}: the NBD handshake failed: {}", dialling.who,
                                     reason.empty() ? "the server closed the connection" : reason),
              .os_error = os_error});
}

/// Waits once, and lets libnbd take its next step. False when a step failed.
bool step(nbd_handle* handle, int socket, SteadyTime until) {
    const unsigned direction = ::nbd_aio_get_direction(handle);
    pollfd wanted{.fd = socket, .events = 0, .revents = 0};
    if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0) {
        wanted.events |= POLLIN;
    }
    if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) {
        wanted.events |= POLLOUT;
    }
    if (::poll(&wanted, 1, poll_timeout(until)) <= 0) {
        return true;
    }
    // An error on the socket is for whichever step libnbd waits in.
    const bool broken = (wanted.revents & (POLLHUP | POLLERR)) != 0;
    if ((wanted.events & POLLIN) != 0 && (broken || (wanted.revents & POLLIN) != 0)) {
        return ::nbd_aio_notify_read(handle) == 0;
    }
    if ((wanted.events & POLLOUT) != 0 && (broken || (wanted.revents & POLLOUT) != 0)) {
        return ::nbd_aio_notify_write(handle) == 0;
    }
    return true;
}

Result<void> negotiate(nbd_handle* handle, const Fd& socket, const std::string& export_name,
                       const Dialling& dialling) {
    const ServerWords words(handle);
    const auto failed = [&](bool with_reason) {
        return handshake_failed(dialling, export_name, with_reason ? last_nbd_error() : "",
                                with_reason ? ::nbd_get_errno() : 0, words.text());
    };
    // libnbd closes what it is given, and it is not said who closes when this call fails: the
    // number is given away for good.
    Fd duplicate(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
    if (!duplicate.is_open()) {
        return fail_errno(errno, fmt::format("{}: duplicating the socket", dialling.who));
    }
    if (::nbd_aio_connect_socket(handle, duplicate.release()) != 0) {
        return failed(true);
    }
    while (::nbd_aio_is_ready(handle) == 0) {
        if (::nbd_aio_is_dead(handle) != 0 || ::nbd_aio_is_closed(handle) != 0) {
            return failed(false);
        }
        if (is_past(dialling.until)) {
            return dialling.timed_out("no answer to the NBD handshake");
        }
        if (!step(handle, socket.get(), dialling.until)) {
            return failed(true);
        }
    }
    return {};
}

Result<Handle> new_handle(const std::string& export_name, const Dialling& dialling) {
    Handle handle(::nbd_create());
    // Simple replies: the link reads data that it has written itself, and has no use for holes.
    // Buffers of reads belong to callers that look at them only after success.
    if (handle == nullptr || ::nbd_set_export_name(handle.get(), export_name.c_str()) != 0 ||
        ::nbd_set_request_structured_replies(handle.get(), false) != 0 ||
        ::nbd_set_pread_initialize(handle.get(), false) != 0) {
        return fail(ErrorKind::invalid, "{}: {}", dialling.who, last_nbd_error());
    }
    return handle;
}

}  // namespace

std::string Address::text() const {
    return unix_path.empty() ? tcp.text() : unix_path;
}

std::string last_nbd_error() {
    const char* error = ::nbd_get_error();
    std::string_view text = error != nullptr ? error : "no reason given";
    if (const std::size_t colon = text.find(": ");
        text.starts_with("nbd_") && colon != std::string_view::npos) {
        text.remove_prefix(colon + 2);
    }
    return std::string(text);
}

Result<OpenedExport> open_export(const Address& address, const std::string& export_name,
                                 const LinkOptions& options) {
    const Dialling dialling{
        .who = describe(address, options),
        .timeout = options.connect_timeout,
        .until = std::chrono::steady_clock::now() + options.connect_timeout,
    };
    Result<Handle> handle = new_handle(export_name, dialling);
    if (!handle) {
        return Failure(std::move(handle.error()));
    }
    Result<Fd> socket = address.unix_path.empty() ? dial_tcp(address.tcp, options.silence, dialling)
                                                  : dial_unix(address.unix_path, dialling);
    if (!socket) {
        return Failure(std::move(socket.error()));
    }
    if (Result<void> done = negotiate(handle->get(), *socket, export_name, dialling); !done) {
        return Failure(std::move(done.error()));
    }
    set_tcp_options(socket->get(), options.silence);
    const std::int64_t size = ::nbd_get_size(handle->get());
    if (size < 0) {
        return fail(ErrorKind::protocol, "{}: the export '{}' has no size: {}", dialling.who,
                    export_name, last_nbd_error());
    }
    return OpenedExport{std::move(*handle), std::move(*socket), static_cast<std::uint64_t>(size)};
}

}  // namespace mirror::nbd
