// SPDX-License-Identifier: BSD-3-Clause
// A machine's disks for tests of the engine and the standby: in memory, on a power supply that can
// fail at any chosen write or flush, and with faults of their own. The test keeps the Machine; the
// code under test gets Stores on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "core/base/sync.hpp"
#include "core/store/store.hpp"
#include "memory_store.hpp"

namespace mirror::test {

/// Counts the writes and flushes of the disks that it feeds. When it fails, every access hangs, as
/// on a machine that is gone, until `on_cut` has severed the network; then all of them fail, so
/// that the threads of the dead machine can end. Nothing reaches a disk any more. Thread-safe.
class Power {
  public:
    /// Fails at this change (the first is 1); the change itself may be kept, torn or lost.
    void cut_at(std::uint64_t change) {
        MutexLock lock(mutex_);
        cut_at_ = change;
    }
    void on_cut(std::function<void()> callback) {
        MutexLock lock(mutex_);
        on_cut_ = std::move(callback);
    }
    void cut() {
        {
            MutexLock lock(mutex_);
            if (off_.exchange(true)) {
                return;
            }
        }
        fail_all();
    }
    [[nodiscard]] bool is_off() const noexcept { return off_.load(); }
    [[nodiscard]] std::uint64_t changes() {
        MutexLock lock(mutex_);
        return changes_;
    }

    enum class Kind { write, flush };
    [[nodiscard]] Result<void> change(Kind kind, const std::function<Result<void>()>& act) {
        {
            MutexLock lock(mutex_);
            if (off_.load()) {
                return die(lock);
            }
            const bool last = ++changes_ == cut_at_;
            if (!last || kind == Kind::write) {
                auto done = act();
                if (!last) {
                    return done;
                }
            }
            off_.store(true);
        }
        fail_all();
        return dead();
    }
    [[nodiscard]] Result<void> look(const std::function<Result<void>()>& act) {
        MutexLock lock(mutex_);
        return off_.load() ? die(lock) : act();
    }

  private:
    static Failure dead() { return fail(ErrorKind::io, "the power is off"); }
    Result<void> die(MutexLock& lock) REQUIRES(mutex_) {
        while (!severed_) {
            changed_.wait(lock);
        }
        return dead();
    }
    void fail_all() {
        std::function<void()> sever;
        {
            MutexLock lock(mutex_);
            sever = on_cut_;
        }
        if (sever) {
            sever();
        }
        MutexLock lock(mutex_);
        severed_ = true;
        changed_.notify_all();
    }

    mutable Mutex mutex_;
    std::atomic<bool> off_{false};
    bool severed_ GUARDED_BY(mutex_) = false;
    std::uint64_t changes_ GUARDED_BY(mutex_) = 0;
    std::uint64_t cut_at_ GUARDED_BY(mutex_) = 0;
    std::function<void()> on_cut_ GUARDED_BY(mutex_);
    CondVar changed_;
};

/// What a disk does beside its work. Set from any thread.
class Faults {
  public:
    enum class Step { reading, writing, written, flushing, flushed };
    /// Called before and after everything that is asked of the disk, on the asker's thread; an
    /// error takes the place of what follows. Zeroing is writing.
    void on_step(std::function<Result<void>(Step)> hook) {
        MutexLock lock(mutex_);
        step_ = std::move(hook);
    }
    /// The next write, zeroing or flush fails; nothing after it. None: no more.
    void fail_once(std::optional<Error> error) {
        MutexLock lock(mutex_);
        next_error_ = std::move(error);
    }
    void fail_writes(std::optional<Error> error) {
        MutexLock lock(mutex_);
        write_error_ = std::move(error);
    }
    void fail_flushes(std::optional<Error> error) {
        MutexLock lock(mutex_);
        flush_error_ = std::move(error);
    }
    /// Called before each read, on its thread.
    void before_read(std::function<void()> hook) {
        MutexLock lock(mutex_);
        before_read_ = std::move(hook);
    }
    /// Called before each write or zeroing, on its thread.
    void before_write(std::function<void()> hook) {
        MutexLock lock(mutex_);
        before_write_ = std::move(hook);
    }
    void before_flush(std::function<void()> hook) {
        MutexLock lock(mutex_);
        before_flush_ = std::move(hook);
    }
    /// Before each piece of a flush that is waited for.
    void before_write_back(std::function<void()> hook) {
        MutexLock lock(mutex_);
        before_write_back_ = std::move(hook);
    }

    void at_read() { (void)at(before_read_, std::nullopt); }
    [[nodiscard]] Result<void> at_write() {
        return at(Step::writing).and_then([&] { return at(before_write_, write_error_); });
    }
    [[nodiscard]] Result<void> at_write_back() { return at(before_write_back_, flush_error_); }
    [[nodiscard]] Result<void> at_flush() {
        return at(Step::flushing).and_then([&] { return at(before_flush_, flush_error_); });
    }
    [[nodiscard]] Result<void> at(Step step) {
        std::function<Result<void>(Step)> hook;
        {
            MutexLock lock(mutex_);
            hook = step_;
        }
        return hook ? hook(step) : Result<void>{};
    }

  private:
    [[nodiscard]] Result<void> at(const std::function<void()>& shared_hook,
                                  const std::optional<Error>& error) {
        MutexLock lock(mutex_);
        if (const std::function<void()> hook = shared_hook) {
            lock.unlock();
            hook();
            lock.lock();
        }
        if (next_error_) {
            return Failure(*std::exchange(next_error_, std::nullopt));
        }
        return error ? Failure(*error) : Result<void>{};
    }

    Mutex mutex_;
    // Guarded by the mutex; at() gets them by reference.
    std::function<Result<void>(Step)> step_;
    std::optional<Error> next_error_;
    std::optional<Error> write_error_;
    std::optional<Error> flush_error_;
    std::function<void()> before_read_;
    std::function<void()> before_write_;
    std::function<void()> before_flush_;
    std::function<void()> before_write_back_;
};

class MachineStore final : public Store {
  public:
    MachineStore(std::unique_ptr<Store> disk, std::shared_ptr<Power> power, Faults& faults)
        : disk_(std::move(disk)), power_(std::move(power)), faults_(faults) {}

    [[nodiscard]] std::uint64_t size() const noexcept override { return disk_->size(); }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        faults_.at_read();
        return faults_.at(Faults::Step::reading).and_then([&] {
            return power_->look([&] { return disk_->read(into, offset); });
        });
    }
    [[nodiscard]] bool read_cached(std::span<std::byte> into,
                                   std::uint64_t offset) noexcept override {
        return !power_->is_off() && disk_->read_cached(into, offset);
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        return change([&] { return disk_->write(from, offset); });
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space space) override {
        return change([&] { return disk_->zero(range, space); });
    }
    [[nodiscard]] Result<void> flush() override {
        return faults_.at_flush()
            .and_then(
                [&] { return power_->change(Power::Kind::flush, [&] { return disk_->flush(); }); })
            .and_then([&] { return faults_.at(Faults::Step::flushed); });
    }
    /// Nothing is durable for it.
    [[nodiscard]] Result<void> write_back(ByteRange, WriteBack how) override {
        return how == WriteBack::await ? faults_.at_write_back() : Result<void>{};
    }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return disk_->extents(range);
    }

  private:
    [[nodiscard]] Result<void> change(const std::function<Result<void>()>& act) {
        return faults_.at_write()
            .and_then([&] { return power_->change(Power::Kind::write, act); })
            .and_then([&] { return faults_.at(Faults::Step::written); });
    }

    const std::unique_ptr<Store> disk_;
    const std::shared_ptr<Power> power_;
    Faults& faults_;
};

/// Which unflushed sector writes of a disk a power cut keeps, by their number.
using Kept = std::function<bool(std::size_t)>;

struct Machine {
    Machine(std::uint64_t size, std::uint64_t meta_size) : disk(size), meta(meta_size) {}

    [[nodiscard]] std::unique_ptr<Store> open_disk() {
        return std::make_unique<MachineStore>(disk.open(), power, disk_faults);
    }
    [[nodiscard]] std::unique_ptr<Store> open_meta() {
        return std::make_unique<MachineStore>(meta.open(), power, meta_faults);
    }

    MemoryDisk disk;
    MemoryDisk meta;
    Faults disk_faults;
    Faults meta_faults;
    std::shared_ptr<Power> power = std::make_shared<Power>();
};

}  // namespace mirror::test
