// SPDX-License-Identifier: BSD-3-Clause
// LinkDriver's half that runs in the callers' threads: from a request to libnbd.
#include <cerrno>
#include <utility>

#include "core/base/checksum.hpp"
#include "core/nbd/link_driver.hpp"
#include "core/nbd/wire.hpp"

namespace mirror::nbd {

void LinkDriver::submit(const LinkRequest& request, Link::Completion done) {
    if (const char* const why = framed_ ? objection(request, size_) : nullptr) {
        // Not enqueued: outstanding_ is what the peer's answers are held against.
        done(Failure(error_of({.request = request, .os_error = EINVAL, .reason = why})));
        return;
    }
    const bool apart = framed_ && goes_apart(request);
    Commands commands = reserve(apart ? 2 : 1);
    Command& command = commands.back();
    command.request = request;
    if (apart) {
        commands.front().request = request;  // and nobody waits for it
    }
    command.done = std::move(done);
    if (framed_) {
        send_framed(commands, request);
    } else if (enqueue(commands)) {
        send(command);
    }
    if (!commands.empty()) {
        const Link::Completion unsent = std::exchange(command.done, nullptr);
        give_back(commands);
        unsent(Failure(loss()));
    }
}

/// What takes long is done before the lock that keeps the order.
void LinkDriver::send_framed(Commands& commands, const LinkRequest& request) {
    Command& head = commands.front();
    Command& command = commands.back();
    const bool apart = &head != &command;
    FrameHeader header = header_of(request);
    std::uint32_t sum = 0;
    if (request.verb == Verb::read) {
        (void)command.wire.take(request.range.length + trailer_size);
        command.at = request.range.offset;
    } else {
        const std::span<const std::byte> data(
            request.from, header.op == FrameOp::write ? request.range.length : 0);
        const std::span<std::byte> frame =
            head.wire.take(FrameHeader::wire_size + (apart ? 0 : data.size()));
        sum = apart ? crc32c(data) : copy_summed(frame.subspan(FrameHeader::wire_size), data);
        head.payload = frame;
        head.at = frame_offset;
        if (apart) {
            command.payload = data;
            command.at = apart_offset;
        }
    }
    MutexLock order(order_mutex_);
    if (request.verb != Verb::read) {
        header.sequence = ++last_frame_;
        store_frame(head.wire.bytes().first<FrameHeader::wire_size>(), header, sum);
    }
    if (!enqueue(commands)) {
        return;
    }
    if (apart) {
        send(head);
    }
    send(command);
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

bool LinkDriver::enqueue(Commands& commands) {
    const SteadyTime submitted = std::chrono::steady_clock::now();
    for (auto command = commands.begin(); command != commands.end(); ++command) {
        command->driver = this;
        command->self = command;
        command->submitted = submitted;
        command->os_error = 0;
        command->reason.clear();
    }
    MutexLock lock(mutex_);
    if (loss_.has_value()) {
        return false;
    }
    outstanding_.splice(outstanding_.end(), commands);
    return true;
}

void LinkDriver::send(Command& command) {
    if (issue(command) < 0) {
        reject(command);
    } else if (!watches_writes_.load() &&
               (::nbd_aio_get_direction(handle_.get()) & LIBNBD_AIO_DIRECTION_WRITE) != 0) {
        wake_up();
    }
}

/// After a success the command may be finished and in use again already.
std::int64_t LinkDriver::issue(Command& command) noexcept {
    const nbd_completion_callback completion{
        .callback =
            [](void* user, int* error) noexcept {
                auto& finished_one = *static_cast<Command*>(user);
                finished_one.driver->finish(finished_one, *error);
                return 1;  // libnbd forgets it
            },
        .user_data = &command,
    };
    const LinkRequest& request = command.request;
    const ByteRange range = request.range;
    if (framed_) {
        return request.verb == Verb::read
                   ? ::nbd_aio_pread(handle_.get(), command.wire.bytes().data(),
                                     command.wire.bytes().size(), command.at, completion, 0)
                   : ::nbd_aio_pwrite(handle_.get(), command.payload.data(), command.payload.size(),
                                      command.at, completion, 0);
    }
    // libnbd wants an address also where nothing is at it.
    static std::byte nothing{};
    void* into = request.into != nullptr ? request.into : &nothing;
    const void* from = request.from != nullptr ? request.from : &nothing;
    switch (request.verb) {
        case Verb::read:
            return range.length > max_payload
                       ? -1
                       : ::nbd_aio_pread(handle_.get(), into, range.length, range.offset,
                                         completion, request.flags);
        case Verb::write:
            return range.length > max_payload
                       ? -1
                       : ::nbd_aio_pwrite(handle_.get(), from, range.length, range.offset,
                                          completion, request.flags);
        case Verb::zero:
            return ::nbd_aio_zero(handle_.get(), range.length, range.offset, completion,
                                  request.flags);
        case Verb::flush:
            return ::nbd_aio_flush(handle_.get(), completion, request.flags);
    }
    return -1;
}

/// libnbd calls no completion for a command that it did not take.
void LinkDriver::reject(Command& command) {
    const LinkRequest& request = command.request;
    const bool payload = request.verb == Verb::read || request.verb == Verb::write;
    if (is_broken()) {
        finish(command, ENOTCONN);
        return;
    }
    command.reason = payload && request.range.length > max_payload
                         ? "more than 32 MiB in one request"
                         : last_nbd_error();
    finish(command, EINVAL);
}

}  // namespace mirror::nbd
