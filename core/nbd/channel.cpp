// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/channel.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>

#include "core/base/units.hpp"

namespace mirror::nbd {
namespace {

/// Encrypted bytes that may wait for the socket; the rest waits in its callers' buffers.
constexpr std::size_t most_encrypted = 256 * KiB;

/// Large enough for the header behind which a large write follows.
constexpr std::size_t piece_of_record = 16 * KiB;

bool must_wait(int os_error) noexcept {
    return os_error == EAGAIN || os_error == EWOULDBLOCK;
}

std::span<const std::byte> bytes_of(const iovec& piece) noexcept {
    return {static_cast<const std::byte*>(piece.iov_base), piece.iov_len};
}

/// The bytes of all pieces in order, cut to what one record takes, so that a small command's
/// header and payload travel in one.
class Gather {
  public:
    Gather(std::span<const iovec> pieces, std::vector<std::byte>& buffer) noexcept
        : pieces_(pieces), joined_(buffer) {}

    /// Valid until the next call; empty at the end.
    [[nodiscard]] std::span<const std::byte> next() {
        skip_empty();
        if (pieces_.empty()) {
            return {};
        }
        const auto first = bytes_of(pieces_.front()).subspan(at_);
        if (first.size() >= piece_of_record || pieces_.size() == 1) {
            const auto part = first.first(std::min(first.size(), piece_of_record));
            at_ += part.size();
            return part;
        }
        joined_.clear();
        while (!pieces_.empty() && joined_.size() < piece_of_record) {
            const auto rest = bytes_of(pieces_.front()).subspan(at_);
            const std::size_t count = std::min(rest.size(), piece_of_record - joined_.size());
            joined_.insert(joined_.end(), rest.begin(),
                           rest.begin() + static_cast<std::ptrdiff_t>(count));
            at_ += count;
            skip_empty();
        }
        return joined_;
    }

  private:
    void skip_empty() noexcept {
        while (!pieces_.empty() && at_ == pieces_.front().iov_len) {
            pieces_ = pieces_.subspan(1);
            at_ = 0;
        }
    }

    std::span<const iovec> pieces_;
    std::size_t at_ = 0;
    std::vector<std::byte>& joined_;
};

}  // namespace

Result<std::size_t> Channel::send(std::span<const iovec> pieces) {
    if (is_encrypted_) {
        return send_encrypted(pieces);
    }
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(pieces.data());  // sendmsg(2) only reads
    message.msg_iovlen = pieces.size();
    for (;;) {
        const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            return static_cast<std::size_t>(sent);
        }
        if (must_wait(errno)) {
            return 0;
        }
        if (errno != EINTR) {
            return fail_errno(errno, "sending");
        }
    }
}

Result<std::size_t> Channel::send_encrypted(std::span<const iovec> pieces) {
    MutexLock lock(mutex_);
    Gather gather(pieces, record_);
    std::size_t taken = 0;
    while (tls_->output().size() < most_encrypted) {
        const std::span<const std::byte> part = gather.next();
        if (part.empty()) {
            break;
        }
        if (auto encrypted = tls_->send(part); !encrypted) {
            return Failure(encrypted.error());
        }
        taken += part.size();
    }
    if (auto pushed = push(); !pushed) {
        return Failure(pushed.error());
    }
    return taken;
}

bool Channel::has_rest() {
    if (!is_encrypted_) {
        return false;
    }
    MutexLock lock(mutex_);
    return !tls_->output().empty();
}

Result<void> Channel::send_rest() {
    if (!is_encrypted_) {
        return {};
    }
    MutexLock lock(mutex_);
    return push();
}

Result<void> Channel::push() {
    while (!tls_->output().empty()) {
        const auto output = tls_->output();
        const ssize_t sent =
            ::send(socket_.get(), output.data(), output.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            tls_->output_taken(static_cast<std::size_t>(sent));
        } else if (must_wait(errno)) {
            return {};
        } else if (errno != EINTR) {
            return fail_errno(errno, "sending");
        }
    }
    return {};
}

Result<std::size_t> Channel::receive(std::span<std::byte> into) {
    return is_encrypted_ ? receive_encrypted(into) : receive_plain(into);
}

Result<std::size_t> Channel::receive_plain(std::span<std::byte> into) const {
    for (;;) {
        const ssize_t got = ::recv(socket_.get(), into.data(), into.size(), MSG_DONTWAIT);
        if (got > 0) {
            return static_cast<std::size_t>(got);
        }
        if (got == 0) {
            return fail(ErrorKind::unreachable, "the peer closed the connection");
        }
        if (must_wait(errno)) {
            return 0;
        }
        if (errno != EINTR) {
            return fail_errno(errno, "receiving");
        }
    }
}

Result<std::size_t> Channel::receive_encrypted(std::span<std::byte> into) {
    MutexLock lock(mutex_);
    std::size_t have = 0;
    for (;;) {
        auto got = tls_->receive(into.subspan(have));
        if (!got) {
            (void)push();  // the alert
            return have > 0 ? Result<std::size_t>(have) : got;
        }
        have += *got;
        if (have == into.size()) {
            return have;
        }
        if (tls_->is_ended()) {
            return have > 0 ? Result<std::size_t>(have)
                            : fail(ErrorKind::unreachable, "the peer closed the connection");
        }
        if (auto pushed = push(); !pushed) {  // a change of keys is answered
            return Failure(pushed.error());
        }
        const auto brought = receive_plain(tls_->input_space());
        if (brought && *brought == 0) {
            return have;
        }
        if (brought) {
            tls_->input_filled(*brought);
        } else if (brought.error().kind == ErrorKind::unreachable) {
            tls_->input_ended();
        } else {
            return have > 0 ? Result<std::size_t>(have) : Failure(brought.error());
        }
    }
}

void Channel::shutdown() noexcept {
    (void)::shutdown(socket_.get(), SHUT_RDWR);
}

void Channel::say_goodbye() noexcept {
    if (!is_encrypted_) {
        return;
    }
    MutexLock lock(mutex_);
    tls_->say_goodbye();
    (void)push();
}

}  // namespace mirror::nbd
