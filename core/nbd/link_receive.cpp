// SPDX-License-Identifier: BSD-3-Clause
// LinkDriver's half that takes the peer's answers, in the event thread or the borrower's. A peer
// may say anything: only an answer to a command that was wholly sent is one.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/epoll.h>
#include <utility>

#include "core/nbd/link_driver.hpp"

namespace mirror::nbd {
namespace {

/// Longer data are received where they belong, without a copy.
constexpr std::size_t worth_a_call = 4 * KiB;

}  // namespace

void LinkDriver::lend(int poll, void* mark) {
    MutexLock lock(mutex_);
    while (is_receiving_) {
        receiver_gone_.wait(lock);
    }
    if (loss_.has_value() || closing_ || lent_to_ >= 0) {
        return;
    }
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = mark;
    if (::epoll_ctl(poll, EPOLL_CTL_ADD, channel_.fd(), &event) == 0) {
        lent_to_ = poll;
        wake_up();  // it waits for answers no longer
    }
}

/// While the socket is open still, so that its number can't be somebody else's.
void LinkDriver::take_back() {
    MutexLock lock(mutex_);
    if (const int poll = std::exchange(lent_to_, -1); poll >= 0) {
        (void)::epoll_ctl(poll, EPOLL_CTL_DEL, channel_.fd(), nullptr);
    }
    while (is_receiving_) {
        receiver_gone_.wait(lock);
    }
    wake_up();
}

bool LinkDriver::begin_receiving(bool borrowed) {
    MutexLock lock(mutex_);
    const bool is_mine = borrowed == (lent_to_ >= 0) && !is_receiving_;
    is_receiving_ |= is_mine;
    return is_mine;
}

void LinkDriver::end_receiving() {
    MutexLock lock(mutex_);
    is_receiving_ = false;
    receiver_gone_.notify_all();
}

void LinkDriver::receive_lent() {
    if (begin_receiving(true)) {
        receive_all();
        end_receiving();
    }
}

/// Until nothing is there: what TLS has decrypted already no poll() would tell of.
void LinkDriver::receive_all() {
    for (bool may_be_more = true; may_be_more && !lost_.load();) {
        const Result<bool> received = receive_some();
        if (!received) {
            connection_failed(received.error());
            return;
        }
        if (!take_replies()) {
            return;
        }
        tell(answered_, nullptr);
        check_deadline();
        may_be_more = *received;
    }
}

/// Whether there may be more: all room was filled.
Result<bool> LinkDriver::receive_some() {
    if (replying_ != nullptr && input_begin_ == input_end_) {
        const std::span<std::byte> rest = replying_->answer.subspan(answer_filled_);
        if (rest.size() >= worth_a_call) {
            const auto got = channel_.receive(rest);
            answer_filled_ += got.value_or(0);
            return got.map([&](std::size_t count) { return count == rest.size(); });
        }
    }
    if (input_begin_ > 0) {
        std::memmove(input_.data(), input_.data() + input_begin_, input_end_ - input_begin_);
        input_end_ -= input_begin_;
        input_begin_ = 0;
    }
    const std::size_t room = input_.capacity() - input_end_;
    const auto got = channel_.receive({input_.data() + input_end_, room});
    input_end_ += got.value_or(0);
    return got.map([&](std::size_t count) { return count == room; });
}

/// Of what was received.
Result<void> LinkDriver::take_replies() {
    for (;;) {
        std::span<const std::byte> bytes(input_.data() + input_begin_, input_end_ - input_begin_);
        if (replying_ == nullptr) {
            if (bytes.size() < simple_reply_size) {
                return {};
            }
            if (auto begun = begin_reply(bytes.first(simple_reply_size)); !begun) {
                tell(answered_, nullptr);
                lose(begun.error());
                return begun;
            }
            bytes = bytes.subspan(simple_reply_size);
        }
        fill_answer(bytes);
        input_begin_ = input_end_ - bytes.size();
        if (answer_filled_ < replying_->answer.size()) {
            return {};
        }
        finish_reply();
    }
}

/// Frames are answered in their order. So the only answer that is believed is the one that is due,
/// and a flipped bit in its number cannot make a success of it for another command.
Result<void> LinkDriver::begin_reply(std::span<const std::byte> header) {
    if (load_be<std::uint32_t>(header.data()) != simple_reply_magic) {
        return fail(ErrorKind::protocol, "{}: the connection broke: what arrived is not a reply",
                    peer_);
    }
    Command* const command = find_outstanding(load_be<std::uint64_t>(header.data() + 8));
    if (command == nullptr) {
        return framed_ ? Failure(garbled("an unexpected reply arrived"))
                       : fail(ErrorKind::protocol,
                              "{}: the connection broke: a reply to no request arrived", peer_);
    }
    command->os_error = static_cast<int>(load_be<std::uint32_t>(header.data() + 4));
    if (command->os_error != 0) {
        command->answer = {};
    }
    replying_ = command;
    answer_filled_ = 0;
    // Of an answer that may have waited here it is only known that it came after its question.
    last_answer_.store(is_late_ ? command->submitted : std::chrono::steady_clock::now(),
                       std::memory_order_relaxed);
    return {};
}

LinkDriver::Command* LinkDriver::find_outstanding(std::uint64_t cookie) {
    MutexLock lock(mutex_);
    const auto is_it = [cookie](const Command& command) { return command.cookie == cookie; };
    const auto end =
        framed_ && !outstanding_.empty() ? std::next(outstanding_.begin()) : outstanding_.end();
    const auto found = std::find_if(outstanding_.begin(), end, is_it);
    if (found == end) {
        return nullptr;
    }
    // The answer may be here before the sender is back from the kernel.
    while (!found->is_sent && is_sending_) {
        sender_gone_.wait(lock);
    }
    return found->is_sent ? &*found : nullptr;
}

void LinkDriver::fill_answer(std::span<const std::byte>& bytes) noexcept {
    const std::span<std::byte> rest = replying_->answer.subspan(answer_filled_);
    const std::size_t count = std::min(rest.size(), bytes.size());
    if (count > 0) {
        std::memcpy(rest.data(), bytes.data(), count);
    }
    answer_filled_ += count;
    bytes = bytes.subspan(count);
}

void LinkDriver::finish_reply() {
    MutexLock lock(mutex_);
    const auto it = std::find_if(outstanding_.begin(), outstanding_.end(),
                                 [this](const Command& each) { return &each == replying_; });
    answered_.splice(answered_.end(), outstanding_, it);
    replying_ = nullptr;
}

}  // namespace mirror::nbd
