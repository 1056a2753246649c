// SPDX-License-Identifier: BSD-3-Clause
// LinkDriver's half that runs in the callers' threads: from a request to bytes in the socket.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/base/checksum.hpp"
#include "core/nbd/link_driver.hpp"

namespace mirror::nbd {
namespace {

/// Commands that one call of the kernel takes.
constexpr std::size_t largest_batch = 64;

void store_header(std::span<std::byte, Request::wire_size> to, Command type, std::uint32_t flags,
                  ByteRange range) noexcept {
    std::byte* place = store_be(to.data(), request_magic);
    place = store_be(place, static_cast<std::uint16_t>(flags));
    place = store_be(place, static_cast<std::uint16_t>(type));
    place = store_be(place, std::uint64_t{0});  // the cookie comes when it is queued
    place = store_be(place, range.offset);
    store_be(place, static_cast<std::uint32_t>(range.length));
}

constexpr std::size_t cookie_at = 8;

Command command_for(Verb verb) noexcept {
    switch (verb) {
        case Verb::read:
            return Command::read;
        case Verb::write:
            return Command::write;
        case Verb::zero:
            return Command::write_zeroes;
        case Verb::flush:
            break;
    }
    return Command::flush;
}

}  // namespace

void LinkDriver::submit(const LinkRequest& request, Link::Completion done) {
    const char* const why =
        framed_ ? objection(request, size_) : objection(request, size_, facts_.flags);
    if (why != nullptr) {
        // Not enqueued: outstanding_ is what the peer's answers are held against.
        done(Failure(error_of(request, EINVAL, why)));
        return;
    }
    Commands commands = reserve(framed_ && goes_apart(request) ? 2 : 1);
    for (Command& command : commands) {
        command.request = request;
        command.os_error = 0;
        command.is_sent = false;
    }
    commands.back().done = std::move(done);  // nobody waits for the head of a frame
    std::uint32_t sum = 0;
    FrameHeader frame;
    if (framed_) {
        frame = prepare_framed(commands, sum);
    } else {
        prepare_plain(commands.front());
    }
    const bool has_frame = framed_ && request.verb != Verb::read;
    MutexLock lock(mutex_);
    if (enqueue(commands, has_frame ? &frame : nullptr, sum)) {
        const bool sends = !is_sending_ && !is_blocked_ && batches_ == 0;
        is_sending_ |= sends;
        const bool dozed = std::exchange(is_dozing_, false);
        lock.unlock();
        if (dozed) {
            wake_up();  // it waits for answers from now on
        }
        if (sends) {
            send_queued();
        }
        return;
    }
    lock.unlock();
    const Link::Completion unsent = std::exchange(commands.back().done, nullptr);
    give_back(commands);
    unsent(Failure(loss()));
}

void LinkDriver::begin_batch() {
    MutexLock lock(mutex_);
    ++batches_;
}

void LinkDriver::end_batch() {
    {
        MutexLock lock(mutex_);
        if (--batches_ != 0 || is_sending_ || is_blocked_ || queued_.empty()) {
            return;
        }
        is_sending_ = true;
    }
    send_queued();
}

void LinkDriver::prepare_plain(Command& command) noexcept {
    const LinkRequest& request = command.request;
    store_header(command.header, command_for(request.verb), request.flags, request.range);
    command.payload = {request.from, request.verb == Verb::write ? request.range.length : 0};
    command.answer = {request.into, request.verb == Verb::read ? request.range.length : 0};
}

/// What takes long is done before the lock that keeps the order. Returns what the frame says,
/// without its number, and the sum of its data.
FrameHeader LinkDriver::prepare_framed(Commands& commands, std::uint32_t& sum) {
    Command& head = commands.front();
    Command& command = commands.back();
    const LinkRequest& request = command.request;
    const bool apart = &head != &command;
    const FrameHeader frame = header_of(request);
    if (request.verb == Verb::read) {
        command.payload = {};
        command.answer = command.wire.take(request.range.length + trailer_size);
        store_header(command.header, nbd::Command::read, 0,
                     {request.range.offset, command.answer.size()});
        return frame;
    }
    const std::span<const std::byte> data(request.from,
                                          frame.op == FrameOp::write ? request.range.length : 0);
    const std::span<std::byte> bytes =
        head.wire.take(FrameHeader::wire_size + (apart ? 0 : data.size()));
    sum = apart ? crc32c(data) : copy_summed(bytes.subspan(FrameHeader::wire_size), data);
    head.payload = bytes;
    head.answer = {};
    store_header(head.header, nbd::Command::write, 0, {frame_offset, bytes.size()});
    if (apart) {
        command.payload = data;
        command.answer = {};
        store_header(command.header, nbd::Command::write, 0, {apart_offset, data.size()});
    }
    return frame;
}

LinkDriver::Commands LinkDriver::reserve(std::size_t commands) {
    Commands reserved;
    {
        MutexLock lock(mutex_);
        while (reserved.size() < commands && !free_.empty()) {
            reserved.splice(reserved.end(), free_, free_.begin());
        }
    }
    while (reserved.size() < commands) {
        reserved.emplace_back();
    }
    return reserved;
}

void LinkDriver::give_back(Commands& commands) {
    MutexLock lock(mutex_);
    free_.splice(free_.end(), commands);
}

Error LinkDriver::loss() {
    MutexLock lock(mutex_);
    return loss_.value_or(Error{});
}

bool LinkDriver::enqueue(Commands& commands, FrameHeader* frame, std::uint32_t sum) {
    if (loss_.has_value()) {
        return false;
    }
    if (frame != nullptr) {
        frame->sequence = ++last_frame_;
        store_frame(commands.front().wire.bytes().first<FrameHeader::wire_size>(), *frame, sum);
    }
    const SteadyTime submitted = std::chrono::steady_clock::now();
    for (Command& command : commands) {
        command.submitted = submitted;
        command.cookie = ++last_cookie_;
        store_be(command.header.data() + cookie_at, command.cookie);
    }
    queued_.splice(queued_.end(), commands);
    return true;
}

/// Until nothing is queued or a batch collects, the socket is full, or the link is lost. The mutex
/// is free while the kernel works. The caller has set is_sending_.
void LinkDriver::send_queued() {
    std::optional<Error> failure;
    MutexLock lock(mutex_);
    while (!loss_.has_value()) {
        fill_batch();
        if (batch_.empty()) {
            break;
        }
        lock.unlock();
        const std::size_t wanted = gather();
        const Result<std::size_t> sent = channel_.send(pieces_);
        const bool has_rest = sent && channel_.has_rest();
        lock.lock();
        if (!sent) {
            failure = sent.error();
            break;
        }
        note_sent(*sent);
        if (*sent < wanted || has_rest) {
            is_blocked_ = true;
            wake_up();
            break;
        }
    }
    is_sending_ = false;
    sender_gone_.notify_all();
    lock.unlock();
    if (failure) {
        connection_failed(*failure);
    }
}

void LinkDriver::fill_batch() {
    while (batch_.size() < largest_batch && !queued_.empty()) {
        batch_.push_back(&queued_.front());
        outstanding_.splice(outstanding_.end(), queued_, queued_.begin());
    }
}

/// Returns the number of bytes in pieces_.
std::size_t LinkDriver::gather() noexcept {
    pieces_.clear();
    std::size_t total = 0;
    std::size_t skip = batch_sent_;
    const auto add = [&](std::span<const std::byte> bytes) {
        const std::size_t skipped = std::min(skip, bytes.size());
        skip -= skipped;
        bytes = bytes.subspan(skipped);
        if (!bytes.empty()) {
            // sendmsg(2) only reads.
            pieces_.push_back({const_cast<std::byte*>(bytes.data()), bytes.size()});
            total += bytes.size();
        }
    };
    for (const Command* command : batch_) {
        add(command->header);
        add(command->payload);
    }
    return total;
}

void LinkDriver::note_sent(std::size_t bytes) {
    batch_sent_ += bytes;
    auto unsent = batch_.begin();
    while (unsent != batch_.end() && batch_sent_ >= (*unsent)->wire_length()) {
        batch_sent_ -= (*unsent)->wire_length();
        (*unsent)->is_sent = true;
        ++unsent;
    }
    batch_.erase(batch_.begin(), unsent);
}

/// The event thread's turn: the socket has room again.
void LinkDriver::go_on_sending() {
    if (auto sent = channel_.send_rest(); !sent) {
        connection_failed(sent.error());
        return;
    }
    if (channel_.has_rest()) {
        return;
    }
    {
        MutexLock lock(mutex_);
        if (!is_blocked_ || is_sending_) {
            return;
        }
        is_blocked_ = false;
        is_sending_ = true;
    }
    send_queued();
}

}  // namespace mirror::nbd
