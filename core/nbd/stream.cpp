// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/stream.hpp"

#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>

namespace mirror::nbd {
namespace {

SteadyTime deadline_of(const Patience& patience) {
    if (patience.stall == std::chrono::milliseconds::max()) {
        return patience.until;
    }
    return std::min(patience.until, std::chrono::steady_clock::now() + patience.stall);
}

/// For poll(): milliseconds, rounded up so that the last fraction is not a busy loop.
int poll_timeout(SteadyTime deadline) {
    if (deadline == SteadyTime::max()) {
        return -1;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
}

}  // namespace

Result<void> recv_exactly(Stream& stream, std::span<std::byte> into, const Patience& patience) {
    while (!into.empty()) {
        const Result<std::size_t> got = stream.recv_some(into, patience);
        if (!got) {
            return Failure(got.error());
        }
        if (*got == 0) {
            return fail(ErrorKind::unreachable, "the client closed the connection");
        }
        into = into.subspan(*got);
    }
    return {};
}

Result<std::size_t> SocketStream::recv_some(std::span<std::byte> into, const Patience& patience) {
    const int flags = patience.is_endless() ? 0 : MSG_DONTWAIT;
    for (;;) {
        const ssize_t got = ::recv(fd_.get(), into.data(), into.size(), flags);
        if (got >= 0) {
            return static_cast<std::size_t>(got);
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (Result<void> ready = wait(POLLIN, patience); !ready) {
                return Failure(ready.error());
            }
        } else if (errno != EINTR) {
            return fail_errno(errno, "receive from the client");
        }
    }
}

Result<void> SocketStream::send_all(std::span<const std::byte> from, const Patience& patience) {
    const int flags = MSG_NOSIGNAL | (patience.is_endless() ? 0 : MSG_DONTWAIT);
    while (!from.empty()) {
        const ssize_t sent = ::send(fd_.get(), from.data(), from.size(), flags);
        if (sent >= 0) {
            from = from.subspan(static_cast<std::size_t>(sent));
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (Result<void> ready = wait(POLLOUT, patience); !ready) {
                return ready;
            }
        } else if (errno != EINTR) {
            return fail_errno(errno, "send to the client");
        }
    }
    return {};
}

void SocketStream::shutdown() noexcept {
    ::shutdown(fd_.get(), SHUT_RDWR);
}

Result<void> SocketStream::wait(short events, const Patience& patience) const {
    const SteadyTime deadline = deadline_of(patience);
    for (;;) {
        pollfd entry{.fd = fd_.get(), .events = events, .revents = 0};
        const int ready = ::poll(&entry, 1, poll_timeout(deadline));
        if (ready > 0) {
            return {};
        }
        if (ready < 0 && errno != EINTR) {
            return fail_errno(errno, "wait for the client");
        }
        if (std::chrono::steady_clock::now() >= deadline) {
            return fail(ErrorKind::timed_out, "the client did not continue in time");
        }
    }
}

}  // namespace mirror::nbd
