// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/link_driver.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <poll.h>
#include <pthread.h>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <tuple>
#include <utility>

#include "core/base/units.hpp"
#include "core/nbd/wire.hpp"

namespace mirror::nbd {
namespace {

using std::chrono::milliseconds;

SteadyTime now() {
    return std::chrono::steady_clock::now();
}

std::string_view to_string(Verb verb) noexcept {
    constexpr std::array<std::string_view, 4> words{"read", "write", "zero", "flush"};
    return words.at(static_cast<std::size_t>(verb));
}

ErrorKind kind_of_answer(int os_error) noexcept {
    switch (os_error) {
        case ENOSPC:
            return ErrorKind::no_space;
        case EPERM:
            return ErrorKind::refused;
        case EINVAL:
            return ErrorKind::invalid;
        default:
            return ErrorKind::io;
    }
}

ErrorKind kind_of_loss(int os_error) noexcept {
    switch (os_error) {
        case ETIMEDOUT:
            return ErrorKind::timed_out;
        case ECONNRESET:
        case ENOTCONN:
        case EPIPE:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case ENETDOWN:
            return ErrorKind::unreachable;
        default:
            return ErrorKind::protocol;
    }
}

}  // namespace

namespace {
/// The link whose event thread this is; its completions need no wake-up.
thread_local const void* driven_here = nullptr;
}  // namespace

LinkDriver::LinkDriver(OpenedExport opened, LinkOptions options, std::string peer, Fd wake)
    : options_(std::move(options)),
      peer_(std::move(peer)),
      framed_(options_.framed),
      size_(framed_ ? opened.size - framed_base : opened.size),
      socket_(std::move(opened.socket)),
      wake_(std::move(wake)),
      handle_(std::move(opened.handle)) {
    if (framed_) {
        return;  // keeps watch with reads of a trailer alone
    }
    const std::int64_t least = ::nbd_get_block_size(handle_.get(), LIBNBD_SIZE_MINIMUM);
    const std::uint64_t wanted = least > 512 ? static_cast<std::uint64_t>(least) : 512;
    watch_buffer_.resize(std::min(wanted, size_));
}

LinkDriver::~LinkDriver() {
    if (thread_.joinable()) {
        {
            MutexLock lock(mutex_);
            closing_ = true;
        }
        wake_up();
        thread_.join();
    }
}

Result<void> LinkDriver::start() {
    // Signals are for the threads of the program that loads this.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    Result<void> started;
    try {
        thread_ = std::thread([this] { run(); });
        ::pthread_setname_np(thread_.native_handle(), ("nbd-" + peer_).substr(0, 15).c_str());
    } catch (const std::system_error& error) {
        started = fail_errno(error.code().value(), fmt::format("{}: starting a thread", peer_));
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
}

/// Frames are answered in their order. So the only answer that is believed is the one that is due,
/// and a flipped bit in its number cannot make a success of it for another command.
bool LinkDriver::is_in_turn(const Command& command) {
    MutexLock lock(mutex_);
    return command.self == outstanding_.begin();
}

void LinkDriver::finish(Command& command, int os_error) {
    if (framed_ && os_error != ENOTCONN && command.reason.empty() && !is_in_turn(command)) {
        lose(garbled("an answer came that is not due"));
        os_error = ENOTCONN;
    }
    if (os_error != ENOTCONN && command.reason.empty()) {
        last_answer_.store(now(), std::memory_order_relaxed);
    }
    bool first = false;
    {
        MutexLock lock(mutex_);
        command.os_error = os_error;
        first = finished_.empty();
        finished_.splice(finished_.end(), outstanding_, command.self);
    }
    if (first && driven_here != this) {
        wake_up();
    }
}

void LinkDriver::wake_up() const noexcept {
    // Fails only when the counter is full, and then the event thread is awake.
    const std::uint64_t one = 1;
    std::ignore = ::write(wake_.get(), &one, sizeof one);
}

void LinkDriver::on_lost(std::function<void(const Error&)> callback) {
    MutexLock lock(mutex_);
    if (!loss_announced_) {
        on_lost_ = std::move(callback);
        return;
    }
    const Error error = loss_.value_or(Error{});
    lock.unlock();
    callback(error);
}

void LinkDriver::lose(Error error) {
    MutexLock lock(mutex_);
    if (loss_.has_value()) {
        return;
    }
    loss_ = std::move(error);
    lost_.store(true);
    // From here on no byte of ours reaches the peer, and the event thread sees the end.
    std::ignore = ::shutdown(socket_.get(), SHUT_RDWR);
    wake_up();
}

bool LinkDriver::is_broken() const noexcept {
    return ::nbd_aio_is_dead(handle_.get()) != 0 || ::nbd_aio_is_closed(handle_.get()) != 0;
}

void LinkDriver::run() {
    driven_here = this;
    while (!must_end()) {
        wait_and_drive();
        check_deadline();
        deliver_answers();
        keep_watch();
    }
    if (lost_.load()) {
        end_lost();
    } else {
        // Sent if the socket takes it; closing without it is only less polite.
        std::ignore = ::nbd_aio_disconnect(handle_.get(), 0);
    }
}

bool LinkDriver::must_end() {
    {
        MutexLock lock(mutex_);
        if (loss_.has_value()) {
            return true;
        }
        if (!closing_) {
            return false;
        }
        // The owner is about to go: it must not hear of the loss that it asked for.
        on_lost_ = nullptr;
        if (outstanding_.empty()) {
            return finished_.empty();
        }
    }
    lose({ErrorKind::unreachable, fmt::format("{}: the link was closed", peer_)});
    return true;
}

/// nbd_poll() would hold the handle lock, and so every submitter, for as long as it waits.
void LinkDriver::wait_and_drive() {
    // Withdrawn before the direction is read: a submitter that then still finds it set did its part
    // early enough to be seen here.
    watches_writes_.store(false);
    const unsigned direction = ::nbd_aio_get_direction(handle_.get());
    const bool writes = (direction & LIBNBD_AIO_DIRECTION_WRITE) != 0;
    watches_writes_.store(writes);
    std::array<pollfd, 2> wanted{{
        {.fd = socket_.get(), .events = static_cast<short>(writes ? POLLIN | POLLOUT : POLLIN)},
        {.fd = wake_.get(), .events = POLLIN},
    }};
    const auto wait = std::chrono::ceil<milliseconds>(next_turn() - now()).count();
    if (::poll(wanted.data(), wanted.size(),
               static_cast<int>(std::clamp<milliseconds::rep>(wait, 0, 3'600'000))) <= 0) {
        return;
    }
    if (wanted[1].revents != 0) {
        std::uint64_t count = 0;
        std::ignore = ::read(wake_.get(), &count, sizeof count);
    }
    drive(wanted[0].revents);
}

void LinkDriver::drive(short events) {
    if (is_broken()) {  // a submitter ran into it
        lose({ErrorKind::unreachable, fmt::format("{}: the connection broke", peer_)});
        return;
    }
    int status = 0;
    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) {
        status = ::nbd_aio_notify_read(handle_.get());
    }
    if (status == 0 && (events & POLLOUT) != 0 &&
        (::nbd_aio_get_direction(handle_.get()) & LIBNBD_AIO_DIRECTION_WRITE) != 0) {
        status = ::nbd_aio_notify_write(handle_.get());
    }
    if (status != 0) {
        const int os_error = ::nbd_get_errno();
        const std::string why = os_error == ETIMEDOUT
                                    ? fmt::format("the machine gave no sign of life for {}",
                                                  format_duration(options_.silence))
                                    : fmt::format("the connection broke: {}", last_nbd_error());
        lose({.kind = kind_of_loss(os_error),
              .message = fmt::format("{}: {}", peer_, why),
              .os_error = os_error});
    } else if (is_broken()) {
        lose({ErrorKind::unreachable, fmt::format("{}: the peer closed the connection", peer_)});
    }
}

/// No later than this must the event thread look around. A command that is submitted meanwhile is
/// due later still, so submitting needs no wake-up for its deadline.
SteadyTime LinkDriver::next_turn() {
    MutexLock lock(mutex_);
    if (!outstanding_.empty()) {
        return outstanding_.front().submitted + options_.deadline;
    }
    return options_.heartbeat ? watch_due() : now() + options_.deadline;
}

SteadyTime LinkDriver::watch_due() const noexcept {
    return std::max(last_answer_.load(std::memory_order_relaxed) + options_.deadline / 3,
                    next_watch_);
}

void LinkDriver::check_deadline() {
    {
        MutexLock lock(mutex_);
        if (outstanding_.empty() || now() < outstanding_.front().submitted + options_.deadline) {
            return;
        }
    }
    lose({ErrorKind::timed_out,
          fmt::format("{}: no answer for {}", peer_, format_duration(options_.deadline))});
}

void LinkDriver::keep_watch() {
    if (!options_.heartbeat || now() < watch_due()) {
        return;
    }
    {
        MutexLock lock(mutex_);
        if (!outstanding_.empty() || loss_.has_value() || closing_) {
            return;
        }
    }
    next_watch_ = now() + options_.deadline / 3;
    if (framed_ || !watch_buffer_.empty()) {
        // Any answer will do, an error too.
        submit(
            {.verb = Verb::read, .range = {0, watch_buffer_.size()}, .into = watch_buffer_.data()},
            [](const Result<void>&) {});
    }
}

/// What the connection's end has aborted waits until on_lost was called.
void LinkDriver::deliver_answers() {
    Commands answered;
    {
        MutexLock lock(mutex_);
        for (auto command = finished_.begin(); command != finished_.end();) {
            const auto current = command++;
            Commands& to = current->os_error == ENOTCONN ? unanswered_ : answered;
            to.splice(to.end(), finished_, current);
        }
    }
    if (!unanswered_.empty()) {
        lose({ErrorKind::unreachable, fmt::format("{}: the connection broke", peer_)});
    }
    tell(answered, nullptr);
}

void LinkDriver::end_lost() {
    Error error;
    std::function<void(const Error&)> announce;
    {
        MutexLock lock(mutex_);
        error = loss_.value_or(Error{});
        announce = std::move(on_lost_);
        loss_announced_ = true;
    }
    if (announce) {
        announce(error);
    }
    make_libnbd_let_go();
    tell(unanswered_, &error);
    while (true) {
        Commands rest;
        {
            MutexLock lock(mutex_);
            if (outstanding_.empty() && finished_.empty()) {
                return;
            }
            rest.splice(rest.end(), finished_);
        }
        if (rest.empty()) {
            // Somebody is on the way from submit() to libnbd's refusal.
            pollfd wanted{.fd = wake_.get(), .events = POLLIN, .revents = 0};
            std::ignore = ::poll(&wanted, 1, 1000);
            std::uint64_t count = 0;
            std::ignore = ::read(wake_.get(), &count, sizeof count);
        }
        tell(rest, &error);
    }
}

/// Buffers go back to their owners when their commands complete, so libnbd must not hold any of
/// them then. The socket is shut: reading gets what had arrived, then the end, and at the end
/// libnbd aborts everything.
void LinkDriver::make_libnbd_let_go() noexcept {
    while (!is_broken()) {
        if (::nbd_aio_notify_read(handle_.get()) != 0 && !is_broken()) {
            std::ignore = ::nbd_aio_notify_write(handle_.get());
        }
    }
}

/// Calls the completions, without any lock, and keeps the commands for the next ones.
void LinkDriver::tell(Commands& commands, const Error* why) {
    if (commands.empty()) {
        return;
    }
    for (Command& command : commands) {
        const Link::Completion done = std::exchange(command.done, nullptr);
        Result<void> result = why != nullptr ? Failure(*why) : take_answer(command);
        command.wire.give_back_if_large();
        if (!done) {
            continue;  // the head of a frame
        }
        if (result && command.request.verb == Verb::write) {
            bytes_written_.fetch_add(command.request.range.length, std::memory_order_relaxed);
        }
        done(std::move(result));
    }
    MutexLock lock(mutex_);
    free_.splice(free_.end(), commands);
}

/// A garbled one ends the link: what else came on it cannot be trusted either.
Result<void> LinkDriver::take_answer(Command& command) {
    const LinkRequest& request = command.request;
    if (command.os_error != 0) {
        Error error = error_of(command);
        if (means_garbled(command)) {
            lose(error);
        }
        return Failure(std::move(error));
    }
    if (framed_ && request.verb == Verb::read) {
        const std::span<const std::byte> answer = command.wire.bytes();
        if (!trailer_fits(answer, request.range.offset)) {
            Error error = garbled(fmt::format("the answer to a read of {} bytes at {}",
                                              request.range.length, request.range.offset));
            lose(error);
            return Failure(std::move(error));
        }
        if (!request.range.empty()) {
            std::memcpy(request.into, answer.data(), request.range.length);
        }
    }
    return {};
}

/// The peer says ESHUTDOWN to a frame that it found garbled. The others it never says to a frame:
/// either the question was garbled before its checksum came into play, or the answer.
bool LinkDriver::means_garbled(const Command& command) const noexcept {
    return framed_ && command.reason.empty() &&
           (command.os_error == ESHUTDOWN || command.os_error == EINVAL ||
            command.os_error == EPERM);
}

Error LinkDriver::garbled(const std::string& what) const {
    return {.kind = ErrorKind::corrupt,
            .message = fmt::format("{}: {}: garbled on the way, a bit was flipped between here and "
                                   "there; nothing of it was believed",
                                   peer_, what),
            .remedy = "look at the network cards, cables and switches on the way"};
}

Error LinkDriver::error_of(const Command& command) const {
    const LinkRequest& request = command.request;
    const std::string what = request.verb == Verb::flush
                                 ? "flush"
                                 : fmt::format("{} of {} bytes at {}", to_string(request.verb),
                                               request.range.length, request.range.offset);
    if (!command.reason.empty()) {
        return {.kind = ErrorKind::invalid,
                .message = fmt::format("{}: {}: {}", peer_, what, command.reason),
                .os_error = command.os_error};
    }
    if (means_garbled(command)) {
        return garbled(what);
    }
    return {.kind = kind_of_answer(command.os_error),
            .message = fmt::format("{}: {}: {}", peer_, what,
                                   std::generic_category().message(command.os_error)),
            .os_error = command.os_error};
}

}  // namespace mirror::nbd
