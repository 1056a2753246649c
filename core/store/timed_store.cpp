// SPDX-License-Identifier: BSD-3-Clause
#include "core/store/timed_store.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/start_thread.hpp"

namespace mirror {
namespace {

/// What a worker keeps of its buffer between requests; more is for the rare long one.
constexpr std::size_t kept_buffer = 1 * MiB;

}  // namespace

void DiskPatience::set_judge(Judge judge) {
    MutexLock lock(mutex_);
    judge_ = judge ? std::make_shared<const Judge>(std::move(judge)) : nullptr;
}

bool DiskPatience::may_give_up(const Error& error) {
    std::shared_ptr<const Judge> judge;
    {
        MutexLock lock(mutex_);
        judge = judge_;
    }
    return judge && (*judge)(error);
}

void DiskPatience::note_silence(SteadyTime since) noexcept {
    SteadyTime none{};
    silent_since_.compare_exchange_strong(none, since);
}

struct TimedStore::Request {
    enum class Verb { read, write, zero, flush, seal, extents, hole };
    Verb verb = Verb::flush;
    ByteRange range;
    Space space = Space::may_free;
};

/// One thread and the request that it has. The fields belong to whoever has the turn: the caller
/// while the worker is idle, the thread while `busy` is set, and nobody else.
struct TimedStore::Worker {
    Request request;
    std::vector<std::byte> buffer;
    Result<void> result;
    std::vector<Extent> extents;
    std::uint64_t hole_length = 0;
    std::uint64_t mark = 0;
    SteadyTime begun{};
    Thread thread;

    Mutex mutex;
    CondVar changed;
    bool busy GUARDED_BY(mutex) = false;
    bool leaving GUARDED_BY(mutex) = false;
};

/// The threads of a store, and the disk behind it: lives until the last thread has ended.
struct TimedStore::Crew {
    explicit Crew(std::unique_ptr<Store> disk) : inner(std::move(disk)) {}

    const std::unique_ptr<Store> inner;
    std::atomic<bool> given_up{false};

    Mutex mutex;
    /// The last one is used first: it is the likeliest to be in some cache.
    std::vector<std::shared_ptr<Worker>> idle GUARDED_BY(mutex);

    void perform(Worker& worker) const {
        const Request& request = worker.request;
        switch (request.verb) {
            case Request::Verb::read:
                worker.result = inner->read(worker.buffer, request.range.offset);
                return;
            case Request::Verb::write:
                worker.result = inner->write(worker.buffer, request.range.offset);
                return;
            case Request::Verb::zero:
                worker.result = inner->zero(request.range, request.space);
                return;
            case Request::Verb::flush:
                worker.result = inner->flush();
                return;
            case Request::Verb::seal: {
                const auto sealed = inner->seal();
                worker.result = sealed ? Result<void>{} : Failure(sealed.error());
                worker.mark = sealed.value_or(0);
                return;
            }
            case Request::Verb::extents: {
                auto found = inner->extents(request.range);
                worker.result = found ? Result<void>{} : Failure(found.error());
                worker.extents = found ? std::move(*found) : std::vector<Extent>{};
                return;
            }
            case Request::Verb::hole:
                worker.hole_length = inner->hole_length(request.range);
                worker.result = {};
                return;
        }
    }

    void serve(Worker& worker) const {
        MutexLock lock(worker.mutex);
        while (true) {
            while (!worker.busy && !worker.leaving) {
                worker.changed.wait(lock);
            }
            if (!worker.busy) {
                return;
            }
            lock.unlock();
            perform(worker);
            lock.lock();
            worker.busy = false;
            worker.changed.notify_all();
        }
    }

    [[nodiscard]] static Result<std::shared_ptr<Worker>> hire(const std::shared_ptr<Crew>& crew) {
        {
            MutexLock lock(crew->mutex);
            if (!crew->idle.empty()) {
                auto worker = std::move(crew->idle.back());
                crew->idle.pop_back();
                return worker;
            }
        }
        auto worker = std::make_shared<Worker>();
        auto started = start_thread("disk", [crew, worker] { crew->serve(*worker); });
        if (!started) {
            return Failure(started.error());
        }
        worker->thread = std::move(*started);
        return worker;
    }

    void give_back(std::shared_ptr<Worker> worker) {
        if (worker->buffer.capacity() > kept_buffer) {
            worker->buffer = {};
        }
        MutexLock lock(mutex);
        idle.push_back(std::move(worker));
    }

    static void dismiss(Worker& worker) {
        MutexLock lock(worker.mutex);
        worker.leaving = true;
        worker.changed.notify_all();
    }
};

TimedStore::TimedStore(std::unique_ptr<Store> inner, std::shared_ptr<DiskPatience> patience,
                       std::string name, CachedRead cached_read)
    : size_(inner->size()),
      patience_(std::move(patience)),
      name_(std::move(name)),
      cached_read_(std::move(cached_read)),
      crew_(std::make_shared<Crew>(std::move(inner))) {}

TimedStore::~TimedStore() {
    // Nobody calls any more, so every worker that was not given up is idle.
    std::vector<std::shared_ptr<Worker>> idle;
    {
        MutexLock lock(crew_->mutex);
        idle.swap(crew_->idle);
    }
    for (const auto& worker : idle) {
        Crew::dismiss(*worker);
        worker->thread.join();
    }
}

Result<void> TimedStore::await(Worker& worker) {
    SteadyTime deadline = worker.begun + patience_->timeout();
    bool was_silent = false;
    MutexLock lock(worker.mutex);
    while (worker.busy) {
        if (worker.changed.wait_until(lock, deadline) != std::cv_status::timeout || !worker.busy) {
            continue;
        }
        lock.unlock();
        was_silent = true;
        patience_->note_silence(worker.begun);
        const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(
            std::chrono::steady_clock::now() - worker.begun);
        const Error silence{ErrorKind::timed_out,
                            fmt::format("{}: no answer for {}", name_, format_duration(waited))};
        if (crew_->given_up.load() || patience_->may_give_up(silence)) {
            crew_->given_up = true;
            return Failure(silence);
        }
        deadline = std::chrono::steady_clock::now() + patience_->timeout();
        lock.lock();
    }
    if (was_silent) {
        patience_->note_answer();
    }
    return {};
}

Result<std::shared_ptr<TimedStore::Worker>> TimedStore::run(const Request& request,
                                                            std::span<const std::byte> from) {
    if (crew_->given_up.load()) {
        return fail(ErrorKind::timed_out, "{}: was abandoned, because it did not respond", name_);
    }
    auto worker = Crew::hire(crew_);
    if (!worker) {
        return worker;
    }
    Worker& hired = **worker;
    hired.request = request;
    if (request.verb == Request::Verb::write) {
        hired.buffer.assign(from.begin(), from.end());
    } else if (request.verb == Request::Verb::read) {
        hired.buffer.resize(request.range.length);
    }
    hired.begun = std::chrono::steady_clock::now();
    {
        MutexLock lock(hired.mutex);
        hired.busy = true;
        hired.changed.notify_all();
    }
    if (auto answered = await(hired); !answered) {
        Crew::dismiss(hired);
        hired.thread.detach();
        return Failure(answered.error());
    }
    return worker;
}

Result<void> TimedStore::run_plain(const Request& request, std::span<const std::byte> from) {
    auto worker = run(request, from);
    if (!worker) {
        return Failure(worker.error());
    }
    Result<void> result = std::move((*worker)->result);
    crew_->give_back(std::move(*worker));
    return result;
}

bool TimedStore::read_cached(std::span<std::byte> into, std::uint64_t offset) noexcept {
    return cached_read_ && !crew_->given_up.load() && cached_read_(into, offset);
}

Result<void> TimedStore::read(std::span<std::byte> into, std::uint64_t offset) {
    if (read_cached(into, offset)) {
        return {};
    }
    auto worker = run({.verb = Request::Verb::read, .range = {offset, into.size()}}, {});
    if (!worker) {
        return Failure(worker.error());
    }
    Result<void> result = std::move((*worker)->result);
    if (result && !into.empty()) {
        std::memcpy(into.data(), (*worker)->buffer.data(), into.size());
    }
    crew_->give_back(std::move(*worker));
    return result;
}

Result<void> TimedStore::write(std::span<const std::byte> from, std::uint64_t offset) {
    return run_plain({.verb = Request::Verb::write, .range = {offset, from.size()}}, from);
}

Result<void> TimedStore::zero(ByteRange range, Space space) {
    return run_plain({.verb = Request::Verb::zero, .range = range, .space = space}, {});
}

Result<void> TimedStore::flush() {
    return run_plain({.verb = Request::Verb::flush}, {});
}

Result<std::uint64_t> TimedStore::seal() {
    auto worker = run({.verb = Request::Verb::seal}, {});
    if (!worker) {
        return Failure(worker.error());
    }
    const Result<std::uint64_t> sealed = (*worker)->result ? Result<std::uint64_t>((*worker)->mark)
                                                           : Failure((*worker)->result.error());
    crew_->give_back(std::move(*worker));
    return sealed;
}

Result<std::vector<Extent>> TimedStore::extents(ByteRange range) {
    auto worker = run({.verb = Request::Verb::extents, .range = range}, {});
    if (!worker) {
        return Failure(worker.error());
    }
    Result<std::vector<Extent>> found = std::move((*worker)->extents);
    if (!(*worker)->result) {
        found = Failure((*worker)->result.error());
    }
    crew_->give_back(std::move(*worker));
    return found;
}

std::uint64_t TimedStore::hole_length(ByteRange range) {
    auto worker = run({.verb = Request::Verb::hole, .range = range}, {});
    if (!worker) {
        return 0;
    }
    const std::uint64_t length = (*worker)->hole_length;
    crew_->give_back(std::move(*worker));
    return length;
}

}  // namespace mirror
