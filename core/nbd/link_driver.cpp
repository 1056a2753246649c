// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/link_driver.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <poll.h>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <tuple>
#include <utility>

#include "core/base/start_thread.hpp"
#include "core/base/units.hpp"
#include "core/nbd/wire.hpp"

namespace mirror::nbd {
namespace {

using std::chrono::milliseconds;

/// Answers that come together; the data of longer reads go past it.
constexpr std::size_t input_size = 64 * KiB;

SteadyTime now() {
    return std::chrono::steady_clock::now();
}

/// Several looks within a deadline: one may meet the moment between two requests of the peer's.
milliseconds look_period(milliseconds deadline) {
    return std::max(deadline / 8, milliseconds(20));
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

LinkDriver::LinkDriver(OpenedExport opened, LinkOptions options, std::string peer, Fd wake)
    : options_(std::move(options)),
      peer_(std::move(peer)),
      framed_(options_.framed),
      facts_(opened.facts),
      size_(framed_ ? opened.facts.size - framed_base : opened.facts.size),
      proof_(opened.tls ? std::optional(opened.tls->proof()) : std::nullopt),
      wake_(std::move(wake)),
      channel_(std::move(opened.socket), std::move(opened.tls)),
      input_(input_size) {
    if (!framed_) {  // a framed one keeps watch with reads of a trailer alone
        watch_buffer_.resize(std::min<std::uint64_t>(
            std::clamp<std::uint32_t>(facts_.minimum_block, 512, 64 * KiB), size_));
    }
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
    auto started = start_thread("nbd-" + peer_, [this] { run(); });
    if (!started) {
        return Failure(started.error().within(peer_));
    }
    thread_ = std::move(*started);
    return {};
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

void LinkDriver::believe(SignsOfLife& signs, std::size_t lane) {
    lane_ = lane;
    MutexLock lock(mutex_);
    signs_ = &signs;
}

void LinkDriver::lose(Error error) {
    MutexLock lock(mutex_);
    if (loss_.has_value()) {
        return;
    }
    loss_ = std::move(error);
    lost_.store(true);
    // From here on no byte of ours reaches the peer, and the event thread sees the end.
    channel_.shutdown();
    wake_up();
}

/// What a call of the kernel or TLS says of the connection.
void LinkDriver::connection_failed(const Error& error) {
    if (error.os_error == ETIMEDOUT) {
        lose({.kind = ErrorKind::timed_out,
              .message = fmt::format("{}: the machine gave no sign of life for {}", peer_,
                                     format_duration(options_.silence)),
              .os_error = ETIMEDOUT});
    } else if (error.os_error != 0) {
        lose({.kind = kind_of_loss(error.os_error),
              .message = fmt::format("{}: the connection broke: {}", peer_,
                                     std::generic_category().message(error.os_error)),
              .os_error = error.os_error});
    } else {
        lose(error.within(peer_));
    }
}

void LinkDriver::run() {
    while (!must_end()) {
        wait_and_drive();
        check_deadline();
        look_for_signs();
        keep_watch();
    }
    take_back();
    if (lost_.load()) {
        end_lost();
    } else {
        say_goodbye();
    }
}

/// Sent if the socket takes it; closing without it is only less polite.
void LinkDriver::say_goodbye() {
    std::array<std::byte, Request::wire_size> request{};
    store_be(request.data(), request_magic);
    store_be(request.data() + 6, static_cast<std::uint16_t>(nbd::Command::disconnect));
    const iovec piece{request.data(), request.size()};
    std::ignore = channel_.send({&piece, 1});
    channel_.say_goodbye();
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
        if (outstanding_.empty() && queued_.empty()) {
            return true;
        }
    }
    lose({ErrorKind::unreachable, fmt::format("{}: the link was closed", peer_)});
    return true;
}

void LinkDriver::wait_and_drive() {
    bool writes = channel_.has_rest();
    bool reads = true;
    std::optional<SteadyTime> doze;
    bool rests = false;
    {
        MutexLock lock(mutex_);
        writes |= is_blocked_;
        reads = lent_to_ < 0;
        doze = reads && !writes ? may_doze_until() : std::nullopt;
        rests = reads && !writes && may_rest();
        is_dozing_ = doze.has_value() || rests;
    }
    const int answers = doze ? POLLRDHUP : reads ? POLLIN : 0;
    std::array<pollfd, 2> wanted{{
        {.fd = channel_.fd(), .events = static_cast<short>(answers | (writes ? POLLOUT : 0))},
        {.fd = wake_.get(), .events = POLLIN},
    }};
    const SteadyTime until = doze ? *doze : rests ? watch_due() : next_turn();
    const auto wait = std::chrono::ceil<milliseconds>(until - now()).count();
    const int ready = ::poll(wanted.data(), wanted.size(),
                             static_cast<int>(std::clamp<milliseconds::rep>(wait, 0, 3'600'000)));
    if (doze) {
        stop_dozing();
    } else if (rests) {
        MutexLock lock(mutex_);
        is_dozing_ = false;
    }
    if (ready <= 0) {
        return;
    }
    if (wanted[1].revents != 0) {
        std::uint64_t count = 0;
        std::ignore = ::read(wake_.get(), &count, sizeof count);
    }
    if ((wanted[0].revents & POLLOUT) != 0) {
        go_on_sending();
    }
    if ((wanted[0].revents & (POLLHUP | POLLERR)) != 0) {
        take_back();  // the borrower may take its time, and the end is not to be missed
    }
    if ((wanted[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && begin_receiving(false)) {
        receive_all();
        end_receiving();
    }
}

/// Only while the look is the only thing under way, and not when the next one is due: a peer that
/// has not answered by then is watched closely.
std::optional<SteadyTime> LinkDriver::may_doze_until() const {
    if (options_.watch_period.count() == 0 || outstanding_.size() != 1 || !queued_.empty() ||
        loss_.has_value() || closing_ || !outstanding_.front().request.is_watch) {
        return std::nullopt;
    }
    const SteadyTime until =
        outstanding_.front().submitted + std::min(watch_period(), options_.deadline);
    return now() < until ? std::optional(until) : std::nullopt;
}

/// Longer than next_turn() allows, so a command that is submitted meanwhile wakes the event thread.
/// Not between the commands of somebody who waits for each: he would pay for each wake-up.
bool LinkDriver::may_rest() const {
    return options_.heartbeat && options_.watch_period > options_.deadline / 3 && !oldest() &&
           !loss_.has_value() && !closing_ &&
           now() >= last_answer_.load(std::memory_order_relaxed) + options_.deadline / 3;
}

/// Takes what came meanwhile. Nobody may have borrowed the link: then it is the borrower's to take.
void LinkDriver::stop_dozing() {
    {
        MutexLock lock(mutex_);
        is_dozing_ = false;
    }
    if (begin_receiving(false)) {
        is_late_ = true;
        receive_all();
        is_late_ = false;
        end_receiving();
    }
}

/// No later than this must the event thread look around. A command that is submitted meanwhile is
/// due later still, and so is the first look for its peer's signs of life, so submitting needs no
/// wake-up for its deadline.
SteadyTime LinkDriver::next_turn() {
    MutexLock lock(mutex_);
    if (const auto submitted = oldest()) {
        const SignsOfLife* const signs = signs_;
        lock.unlock();
        if (signs == nullptr) {
            return *submitted + options_.deadline;
        }
        return std::min(silent_at(*submitted, signs),
                        std::max(*submitted + look_period(options_.deadline), next_look_));
    }
    return options_.heartbeat ? std::min(watch_due(), now() + options_.deadline / 3)
                              : now() + options_.deadline;
}

std::optional<SteadyTime> LinkDriver::oldest() const noexcept {
    if (!outstanding_.empty()) {
        return outstanding_.front().submitted;
    }
    return queued_.empty() ? std::nullopt : std::optional(queued_.front().submitted);
}

milliseconds LinkDriver::watch_period() const noexcept {
    return options_.watch_period.count() != 0 ? options_.watch_period : options_.deadline / 3;
}

SteadyTime LinkDriver::watch_due() const noexcept {
    return std::max(last_answer_.load(std::memory_order_relaxed) + watch_period(), next_watch_);
}

SteadyTime LinkDriver::silent_at(SteadyTime submitted, const SignsOfLife* signs) const {
    SteadyTime at = submitted + options_.deadline;
    if (signs != nullptr) {
        const SteadyTime progress = signs->last_progress(lane_);
        at = std::max(at, std::min(progress + options_.deadline, submitted + options_.patience));
    }
    return at;
}

void LinkDriver::check_deadline() {
    SteadyTime submitted;
    const SignsOfLife* signs = nullptr;
    {
        MutexLock lock(mutex_);
        const auto found = oldest();
        if (!found || now() < *found + options_.deadline) {
            return;
        }
        submitted = *found;
        signs = signs_;
    }
    // Meanwhile it may be answered: the peer was silent for so long all the same.
    if (now() >= silent_at(submitted, signs)) {
        lose(silence(submitted, signs));
    }
}

/// In words that tell a peer that does not answer at all from one whose disk is the reason.
Error LinkDriver::silence(SteadyTime submitted, const SignsOfLife* signs) const {
    const auto waited = std::chrono::duration_cast<milliseconds>(now() - submitted);
    if (signs == nullptr || signs->last_progress(lane_) <= submitted) {
        return {ErrorKind::timed_out,
                fmt::format("{}: no answer for {}", peer_, format_duration(options_.deadline))};
    }
    if (waited >= options_.patience) {
        return {ErrorKind::timed_out,
                fmt::format("{}: no answer for {}, although its disk was working", peer_,
                            format_duration(options_.patience)),
                "the disk there is too slow for these writes: check what else uses it"};
    }
    return {ErrorKind::timed_out,
            fmt::format("{}: no answer for {}: its disk made no progress for {}", peer_,
                        format_duration(waited), format_duration(options_.deadline))};
}

/// While a command waits, and not before it has waited a while: most are answered at once.
void LinkDriver::look_for_signs() {
    SignsOfLife* signs = nullptr;
    {
        MutexLock lock(mutex_);
        const auto submitted = oldest();
        if (signs_ == nullptr || !submitted || loss_.has_value() || now() < next_look_ ||
            now() < *submitted + look_period(options_.deadline)) {
            return;
        }
        signs = signs_;
    }
    next_look_ = now() + look_period(options_.deadline);
    signs->look();
}

void LinkDriver::keep_watch() {
    if (!options_.heartbeat || now() < watch_due()) {
        return;
    }
    {
        MutexLock lock(mutex_);
        if (oldest() || loss_.has_value() || closing_) {
            return;
        }
    }
    next_watch_ = now() + watch_period();
    if (framed_ || !watch_buffer_.empty()) {
        // Any answer will do, an error too.
        submit({.verb = Verb::read,
                .range = {0, watch_buffer_.size()},
                .into = watch_buffer_.data(),
                .is_watch = true},
               [](const Result<void>&) {});
    }
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
    Commands rest;
    {
        // Buffers go back to their owners when their commands complete, so nobody may be sending
        // from them then. The socket is shut: a sender does not stay.
        MutexLock lock(mutex_);
        while (is_sending_) {
            sender_gone_.wait(lock);
        }
        rest.splice(rest.end(), outstanding_);
        rest.splice(rest.end(), queued_);
    }
    tell(rest, &error);
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
        Error error = error_of(request, command.os_error, nullptr);
        if (means_garbled(command.os_error)) {
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
bool LinkDriver::means_garbled(int os_error) const noexcept {
    return framed_ && (os_error == ESHUTDOWN || os_error == EINVAL || os_error == EPERM);
}

Error LinkDriver::garbled(const std::string& what) const {
    return {.kind = ErrorKind::corrupt,
            .message = fmt::format("{}: {}: corrupted in transit, a bit was flipped between the "
                                   "nodes; the data was discarded",
                                   peer_, what),
            .remedy = "check the network cards, cables and switches between the nodes"};
}

/// `reason`: why it was not sent; null for the peer's own answer.
Error LinkDriver::error_of(const LinkRequest& request, int os_error, const char* reason) const {
    const std::string what = request.verb == Verb::flush
                                 ? "flush"
                                 : fmt::format("{} of {} bytes at {}", to_string(request.verb),
                                               request.range.length, request.range.offset);
    if (reason != nullptr) {
        return {.kind = ErrorKind::invalid,
                .message = fmt::format("{}: {}: {}", peer_, what, reason),
                .os_error = os_error};
    }
    if (means_garbled(os_error)) {
        return garbled(what);
    }
    return {.kind = kind_of_answer(os_error),
            .message =
                fmt::format("{}: {}: {}", peer_, what, std::generic_category().message(os_error)),
            .os_error = os_error};
}

}  // namespace mirror::nbd
