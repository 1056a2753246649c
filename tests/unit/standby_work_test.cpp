// SPDX-License-Identifier: BSD-3-Clause
// What a standby tells of the work at its disk, and how it keeps that work in pieces.
#include <atomic>
#include <fstream>
#include <vector>

#include <doctest/doctest.h>

#include "core/standby/device_watch.hpp"
#include "core/standby/disk_activity.hpp"
#include "core/standby/flush_budget.hpp"
#include "core/standby/region_marks.hpp"
#include "core/standby/session_member.hpp"
#include "core/standby/write_behind.hpp"
#include "core/standby/zero_piece.hpp"
#include "tests/unit/memory_store.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::test;
using namespace std::chrono_literals;

namespace {

/// Goes when it is told to.
class HandClock final : public Clock {
  public:
    [[nodiscard]] WallTime wall_now() const override { return {}; }
    [[nodiscard]] SteadyTime steady_now() const override { return SteadyTime(now_.load()); }
    void go_on(SteadyTime::duration by) { now_ = now_.load() + by; }

  private:
    std::atomic<SteadyTime::duration> now_{1h};
};

/// A disk with a page cache: what was written is at the disk when it was waited for, or flushed.
class SlowStore final : public Store {
  public:
    SlowStore(std::uint64_t size, HandClock& clock) : size_(size), clock_(clock) {}

    [[nodiscard]] std::uint64_t size() const noexcept override { return size_; }
    [[nodiscard]] Result<void> read(std::span<std::byte>, std::uint64_t) override { return {}; }
    [[nodiscard]] Result<void> write(std::span<const std::byte>, std::uint64_t) override {
        return {};
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space) override {
        zeroed.push_back(range);
        clock_.go_on(a_zeroing);
        return {};
    }
    [[nodiscard]] Result<void> write_back(ByteRange range, WriteBack how) override {
        if (how == WriteBack::begin) {
            begun.push_back(range);
            most_ahead = std::max(most_ahead, begun.size() - awaited.size());
            return {};
        }
        if (before_await) {
            before_await();
        }
        clock_.go_on(a_region);
        awaited.push_back(range);
        return failure ? Failure(*failure) : Result<void>{};
    }
    [[nodiscard]] Result<void> flush() override {
        ++flushes;
        clock_.go_on(a_flush);
        return {};
    }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return std::vector<Extent>{{range, false}};
    }

    SteadyTime::duration a_region = 10ms;
    SteadyTime::duration a_flush = 0ms;
    SteadyTime::duration a_zeroing = 0ms;
    std::function<void()> before_await;
    std::optional<Error> failure;
    std::vector<ByteRange> begun;
    std::vector<ByteRange> awaited;
    std::vector<ByteRange> zeroed;
    std::size_t most_ahead = 0;
    int flushes = 0;

  private:
    const std::uint64_t size_;
    HandClock& clock_;
};

constexpr std::uint64_t seek = FlushBudget::cost_of_seek;

}  // namespace

TEST_SUITE("what is told of the work") {
    TEST_CASE(
        "a lane stands still since its present request began, and an idle one is not told of") {
        HandClock clock;
        DiskActivity activity(clock);
        const auto data = activity.open_lane();
        const auto bulk = activity.open_lane();
        data->store(activity.now());
        clock.go_on(1500ms);
        nbd::WorkReport report = activity.report({});
        CHECK(report[1] == 1500ms);
        CHECK_FALSE(report[0]);
        CHECK_FALSE(report[2]);
        data->store(activity.now());  // the next request: the one before is done
        clock.go_on(20ms);
        report = activity.report({});
        CHECK(report[1] == 20ms);
        data->store(0);
        CHECK_FALSE(activity.report({})[1]);
        CHECK(bulk->load() == 0);
    }

    TEST_CASE("what one lane gets done is no progress of another one that hangs") {
        HandClock clock;
        DiskActivity activity(clock);
        const auto hung = activity.open_lane();
        const auto busy = activity.open_lane();
        hung->store(activity.now());
        for (int i = 0; i < 10; ++i) {
            busy->store(activity.now());
            clock.go_on(1s);
        }
        CHECK(activity.report({})[1] == 10s);
        CHECK(activity.report({})[2] == 1s);
    }

    TEST_CASE("a piece of a flush, and what the device finished, count for everybody who waits") {
        HandClock clock;
        DiskActivity activity(clock);
        const auto lane = activity.open_lane();
        lane->store(activity.now());
        clock.go_on(3s);
        activity.note_flushed_piece();
        clock.go_on(2s);
        CHECK(activity.report({})[1] == 2s);
        CHECK(activity.report(clock.steady_now() - 1s)[1] == 1s);
        CHECK_FALSE(activity.report(clock.steady_now())[2]);
    }

    TEST_CASE("the lanes of a session before are not told of, and too many are none") {
        HandClock clock;
        DiskActivity activity(clock);
        const auto old = activity.open_lane();
        old->store(activity.now());
        activity.forget_lanes();
        clock.go_on(1s);
        std::vector<std::shared_ptr<DiskActivity::Lane>> lanes;
        for (std::size_t i = 0; i < 2 * nbd::work_lanes; ++i) {
            lanes.push_back(activity.open_lane());
        }
        CHECK_FALSE(activity.report({})[1]);
        lanes[6]->store(activity.now());
        lanes[7]->store(activity.now());
        CHECK(activity.report({})[7] == 0ms);
    }

    TEST_CASE("a report travels as it is") {
        nbd::WorkReport report;
        report[0] = 0ms;
        report[3] = 1234ms;
        report[7] = std::chrono::hours(24 * 365);
        std::array<std::byte, nbd::work_report_size> bytes{};
        nbd::store_work_report(bytes, report);
        const nbd::WorkReport back = nbd::load_work_report(bytes);
        CHECK(back[0] == 0ms);
        CHECK_FALSE(back[1]);
        CHECK(back[3] == 1234ms);
        CHECK(back[7] == std::chrono::milliseconds(0xFFFF'FFFE));
    }

    TEST_CASE("the export answers from the activity, and speaks for an active that asks") {
        HandClock clock;
        const auto activity = std::make_shared<DiskActivity>(clock);
        const auto progress = make_progress_export(activity, "");
        const auto lane = activity->open_lane();
        lane->store(activity->now());
        clock.go_on(700ms);
        std::array<std::byte, nbd::work_report_size> bytes{};
        REQUIRE(progress->traits().size == bytes.size());
        REQUIRE(progress->read(bytes, 0));
        CHECK(nbd::load_work_report(bytes)[1] == 700ms);
        CHECK(activity->last_request() == clock.steady_now());
        // Of any length, at any place, as NBD has it.
        std::array<std::byte, 4> part{};
        REQUIRE(progress->read(part, 4));
        CHECK(std::equal(part.begin(), part.end(), bytes.begin() + 4));
        CHECK_FALSE(progress->write(part, 0));
    }
}

TEST_SUITE("the device below") {
    TEST_CASE("writes, discards and flushes count, reads do not") {
        CHECK(finished_requests("  90 1 2 3 100 5 6 7 8 9 10 20 12 13 14 3 16") == 123U);
        CHECK(finished_requests("91 1 2 3 100 5 6 7 8 9 10 20 12 13 14 3 16") == 123U);
        CHECK(finished_requests("90 1 2 3 100 5 6 7 8 9 10") == 100U);  // before Linux 4.18
        CHECK_FALSE(finished_requests("90 1 2 3"));
        CHECK_FALSE(finished_requests("none of it"));
    }

    TEST_CASE("a count that moved is dated by the look before, and the first look knows nothing") {
        const TempDir directory;
        const std::string path = directory.path() + "/stat";
        const auto put = [&](int writes) {
            std::ofstream(path) << fmt::format("0 0 0 0 {} 0 0 0 0 0 0", writes);
        };
        DeviceWatch watch(path);
        const SteadyTime start{1h};
        put(10);
        CHECK(watch.last_finished(start) == SteadyTime{});
        CHECK(watch.last_finished(start + 1s) == SteadyTime{});
        put(11);
        CHECK(watch.last_finished(start + 2s) == start + 1s);
        CHECK(watch.last_finished(start + 9s) == start + 1s);
        DeviceWatch nothing(directory.path() + "/absent");
        CHECK(nothing.last_finished(start) == SteadyTime{});
        CHECK(DeviceWatch("").last_finished(start) == SteadyTime{});
    }
}

TEST_SUITE("flushing in pieces") {
    TEST_CASE("marks: each written region once, in order, until it is taken") {
        RegionMarks marks(10 * GiB + 1);
        marks.mark({9 * GiB, 1});
        marks.mark({0, 1});
        marks.mark({3 * MiB - 1, 2});
        marks.mark({3 * MiB, 5});
        marks.mark({10 * GiB, 1});
        std::vector<std::size_t> taken;
        marks.take([&](std::size_t region) { taken.push_back(region); });
        CHECK(taken == std::vector<std::size_t>{0, 2, 3, 9 * 1024, 10 * 1024});
        marks.take([&](std::size_t) { FAIL_CHECK("taken twice"); });
    }

    TEST_CASE("much is brought to the disk a region at a time, each of them progress") {
        HandClock clock;
        SlowStore store(1 * GiB, clock);
        DiskActivity activity(clock);
        WriteBehind behind(store, activity);
        const auto lane = activity.open_lane();
        for (std::uint64_t i = 0; i < 200; ++i) {
            behind.note({(199 - i) * 3 * MiB, 4096}, false);
        }
        lane->store(activity.now());
        store.a_region = 100ms;
        std::chrono::milliseconds longest{0};
        store.before_await = [&] { longest = std::max(longest, *activity.report({})[1]); };
        REQUIRE(behind.flush());
        CHECK(store.awaited.size() == 200);
        CHECK(store.awaited.front() == ByteRange{0, MiB});
        CHECK(store.begun == store.awaited);
        CHECK(store.most_ahead == 32);
        CHECK(store.flushes == 1);
        // Twenty seconds of work, and no more than one region's without a sign of it.
        CHECK(longest <= 100ms);
        CHECK(*activity.report({})[1] <= 100ms);
    }

    TEST_CASE("a piece that hangs is no progress") {
        HandClock clock;
        SlowStore store(1 * GiB, clock);
        DiskActivity activity(clock);
        WriteBehind behind(store, activity);
        const auto lane = activity.open_lane();
        for (std::uint64_t i = 0; i < 200; ++i) {
            behind.note({i * MiB, 4096}, false);
        }
        lane->store(activity.now());
        store.before_await = [&] {
            if (store.awaited.size() == 100) {
                clock.go_on(1h);
                CHECK(*activity.report({})[1] >= 1h);
            }
        };
        REQUIRE(behind.flush());
    }

    TEST_CASE("little is flushed at once") {
        HandClock clock;
        SlowStore store(1 * GiB, clock);
        DiskActivity activity(clock);
        WriteBehind behind(store, activity);
        for (std::uint64_t i = 0; i < 40; ++i) {
            behind.note({i * MiB, 4096}, false);
        }
        REQUIRE(behind.flush());
        CHECK(store.begun.empty());
        CHECK(store.flushes == 1);
    }

    TEST_CASE(
        "zeroes that were written are flushed in pieces too, the last region's end included") {
        HandClock clock;
        SlowStore store(100 * MiB + 4096, clock);
        DiskActivity activity(clock);
        WriteBehind behind(store, activity);
        behind.note_zeroes({0, store.size()});
        REQUIRE(behind.flush());
        REQUIRE(store.awaited.size() == 101);
        CHECK(store.awaited.back() == ByteRange{100 * MiB, 4096});
    }

    TEST_CASE("thousands of regions in a row cost fewer calls, and none is left out") {
        HandClock clock;
        SlowStore store(8 * GiB + 4096, clock);
        DiskActivity activity(clock);
        WriteBehind behind(store, activity);
        behind.note_zeroes({0, store.size()});
        REQUIRE(behind.flush());
        CHECK(store.awaited.size() < 3000);
        std::uint64_t at = 0;
        for (const ByteRange& range : store.awaited) {
            CHECK(range.offset == at);
            CHECK(range.length <= 4 * MiB);
            at = range.end();
        }
        CHECK(at == store.size());
    }

    TEST_CASE("a piece that fails is a flush that fails, and nothing is said to be durable") {
        HandClock clock;
        SlowStore store(1 * GiB, clock);
        DiskActivity activity(clock);
        WriteBehind behind(store, activity);
        behind.note_zeroes({0, GiB});
        store.failure = Error{ErrorKind::io, "broken"};
        CHECK(behind.flush().error().message == "broken");
        CHECK(store.flushes == 0);
    }
}

TEST_SUITE("how much is taken before it is flushed") {
    TEST_CASE("writes here and there cost a seek, those in a row do not") {
        CHECK(FlushBudget::cost({4096, 4096}, false) == 4096 + seek);
        CHECK(FlushBudget::cost({4096, 4096}, true) == 4096);
    }

    TEST_CASE("on a slow disk it becomes what the disk writes in a second") {
        FlushBudget budget;
        for (int i = 0; i < 3000; ++i) {
            budget.note(FlushBudget::cost({0, 4096}, false));
        }
        CHECK_FALSE(budget.is_used_up());
        auto flush = budget.begin_flush();
        budget.flushed(flush, 4s);
        CHECK(budget.limit() > 700 * seek);
        CHECK(budget.limit() < 800 * seek);
        for (int i = 0; i < 800; ++i) {
            budget.note(FlushBudget::cost({0, 4096}, false));
        }
        CHECK(budget.is_used_up());
        flush = budget.begin_flush();
        CHECK_FALSE(budget.is_used_up());
        budget.flushed(flush, 100s);
        CHECK(budget.limit() == FlushBudget::least_limit);
    }

    TEST_CASE("on a quick one it grows, step by step") {
        FlushBudget budget;
        budget.note(FlushBudget::first_limit);
        CHECK(budget.is_used_up());
        budget.flushed(budget.begin_flush(), 1ms);
        CHECK(budget.limit() == 8 * FlushBudget::first_limit);
    }

    TEST_CASE("a flush of little, or of zeroes, says nothing of the disk") {
        FlushBudget budget;
        budget.note(10 * seek);
        budget.flushed(budget.begin_flush(), 10s);
        CHECK(budget.limit() == FlushBudget::first_limit);
        budget.note(1000 * seek);
        budget.note_zeroes(1);
        budget.flushed(budget.begin_flush(), 1ms);
        CHECK(budget.limit() == FlushBudget::first_limit);
        budget.note(1000 * seek);
        budget.flushed(budget.begin_flush(), 10s);
        CHECK(budget.limit() == FlushBudget::least_limit);
    }
}

TEST_CASE("pieces of zeroes grow while the disk is quick and shrink when it is slow") {
    ZeroPiece piece;
    CHECK(piece.bytes() == 4 * MiB);
    for (int i = 0; i < 10; ++i) {
        piece.done(piece.bytes(), 10ms);
    }
    CHECK(piece.bytes() == ZeroPiece::most);
    piece.done(piece.bytes(), 500ms);
    CHECK(piece.bytes() == ZeroPiece::most);
    for (int i = 0; i < 20; ++i) {
        piece.done(piece.bytes(), 3s);
    }
    CHECK(piece.bytes() == ZeroPiece::least);
    piece.done(1000, 1ms);  // the rest of a range says nothing of a whole piece
    CHECK(piece.bytes() == ZeroPiece::least);
}
