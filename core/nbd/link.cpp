// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/link.hpp"

#include <cerrno>
#include <optional>
#include <sys/eventfd.h>
#include <utility>

#include "core/base/sync.hpp"
#include "core/nbd/link_driver.hpp"

namespace mirror::nbd {
namespace {

std::uint32_t fua_flag(bool fua) {
    return fua ? command_flag::fua : 0;
}

}  // namespace

Link::Link(std::unique_ptr<LinkDriver> driver) noexcept : driver_(std::move(driver)) {}

Link::~Link() = default;

Result<std::unique_ptr<Link>> Link::connect(const Address& address, const std::string& export_name,
                                            const LinkOptions& options) {
    Result<OpenedExport> opened = open_export(address, export_name, options);
    if (!opened) {
        return Failure(std::move(opened.error()));
    }
    if (options.framed && opened->facts.size < framed_base) {
        return fail(ErrorKind::protocol, "{}: the export '{}' is not framed", address.text(),
                    export_name);
    }
    const std::string peer = options.peer_name.empty() ? address.text() : options.peer_name;
    Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake.is_open()) {
        return fail_errno(errno, fmt::format("{}: eventfd", peer));
    }
    auto driver = std::make_unique<LinkDriver>(std::move(*opened), options, peer, std::move(wake));
    if (Result<void> started = driver->start(); !started) {
        return Failure(std::move(started.error()));
    }
    return std::unique_ptr<Link>(new Link(std::move(driver)));
}

std::uint64_t Link::export_size() const noexcept {
    return driver_->size();
}

const std::optional<tls::Proof>& Link::proof() const noexcept {
    return driver_->proof();
}

void Link::read(std::span<std::byte> into, std::uint64_t offset, Completion done) {
    driver_->submit({.verb = Verb::read, .range = {offset, into.size()}, .into = into.data()},
                    std::move(done));
}

void Link::write(std::span<const std::byte> from, std::uint64_t offset, bool fua, Completion done) {
    driver_->submit({.verb = Verb::write,
                     .range = {offset, from.size()},
                     .from = from.data(),
                     .flags = fua_flag(fua)},
                    std::move(done));
}

void Link::zero(ByteRange range, Space space, bool fua, Completion done) {
    const std::uint32_t no_hole = space == Space::keep_allocated ? command_flag::no_hole : 0;
    driver_->submit({.verb = Verb::zero, .range = range, .flags = fua_flag(fua) | no_hole},
                    std::move(done));
}

void Link::flush(Completion done) {
    driver_->submit({.verb = Verb::flush}, std::move(done));
}

namespace {

/// Stands in for a caller that waits.
class Waiter {
  public:
    [[nodiscard]] Link::Completion completion() {
        return [this](Result<void> result) {
            MutexLock lock(mutex_);
            result_ = std::move(result);
            // Under the lock, since the waiter is gone as soon as it sees the result.
            answered_.notify_one();
        };
    }
    [[nodiscard]] Result<void> wait() {
        MutexLock lock(mutex_);
        while (!result_.has_value()) {
            answered_.wait(lock);
        }
        return std::move(*result_);
    }

  private:
    Mutex mutex_;
    CondVar answered_;
    std::optional<Result<void>> result_ GUARDED_BY(mutex_);
};

}  // namespace

Result<void> Link::read(std::span<std::byte> into, std::uint64_t offset) {
    Waiter waiter;
    read(into, offset, waiter.completion());
    return waiter.wait();
}

Result<void> Link::write(std::span<const std::byte> from, std::uint64_t offset, bool fua) {
    Waiter waiter;
    write(from, offset, fua, waiter.completion());
    return waiter.wait();
}

Result<void> Link::zero(ByteRange range, Space space, bool fua) {
    Waiter waiter;
    zero(range, space, fua, waiter.completion());
    return waiter.wait();
}

Result<void> Link::flush() {
    Waiter waiter;
    flush(waiter.completion());
    return waiter.wait();
}

Result<void> Link::exchange(std::span<const std::byte> from, std::span<std::byte> into) {
    Waiter written;
    Waiter answered;
    begin_batch();
    write(from, 0, false, written.completion());
    read(into, 0, answered.completion());
    end_batch();
    // The later one first: when it is there, so is the other.
    Result<void> answer = answered.wait();
    Result<void> done = written.wait();
    return done ? answer : done;
}

void Link::begin_batch() {
    driver_->begin_batch();
}

void Link::end_batch() {
    driver_->end_batch();
}

void Link::lend(int poll, void* mark) {
    driver_->lend(poll, mark);
}

void Link::receive() {
    driver_->receive_lent();
}

void Link::take_back() {
    driver_->take_back();
}

void Link::lose(const std::string& reason) {
    driver_->lose({ErrorKind::unreachable, fmt::format("{}: {}", driver_->peer(), reason)});
}

bool Link::is_lost() const noexcept {
    return driver_->is_lost();
}

void Link::on_lost(std::function<void(const Error&)> callback) {
    driver_->on_lost(std::move(callback));
}

void Link::believe(SignsOfLife& signs, std::size_t lane) {
    driver_->believe(signs, lane);
}

std::chrono::steady_clock::time_point Link::last_answer() const noexcept {
    return driver_->last_answer();
}

std::uint64_t Link::bytes_written() const noexcept {
    return driver_->bytes_written();
}

}  // namespace mirror::nbd
