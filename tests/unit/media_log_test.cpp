// SPDX-License-Identifier: BSD-3-Clause
#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/control/media_json.hpp"

using namespace mirror;

namespace {

class TestClock final : public Clock {
  public:
    [[nodiscard]] WallTime wall_now() const override { return WallTime{} + since_start; }
    [[nodiscard]] SteadyTime steady_now() const override { return SteadyTime{} + since_start; }
    std::chrono::seconds since_start{1000};
};

MediaError read_error(std::uint64_t offset, std::uint64_t length) {
    return {MediaOperation::read, {offset, length}, MediaAction::repaired};
}

}  // namespace

TEST_CASE("neighbouring errors of one kind become one range") {
    TestClock clock;
    MediaLog log(clock, 7);
    (void)log.note(read_error(0, 4096));
    (void)log.note(read_error(8192, 4096));
    (void)log.note(read_error(4096, 4096));
    (void)log.note({MediaOperation::write, {0, 4096}, MediaAction::replica_left_out, true});
    const auto view = log.view();
    CHECK(view.total == 11);
    CHECK(view.read_errors == 3);
    CHECK(view.write_errors == 1);
    CHECK(view.timeouts == 1);
    CHECK(view.repaired == 3);
    REQUIRE(view.entries.size() == 2);
    CHECK(view.entries[1].error.range == ByteRange{0, 3 * 4096});
    CHECK(view.entries[1].count == 3);
    const auto json = control::encode(view);
    CHECK(json["ranges"][1]["length_bytes"] == 3 * 4096);
    CHECK(json["ranges"][0]["action"] == "replica-left-out");
}

TEST_CASE("the list of ranges is bounded and keeps the newest") {
    TestClock clock;
    MediaLog log(clock);
    for (std::uint64_t i = 0; i < 1000; ++i) {
        (void)log.note(read_error(i * MiB, 4096));
    }
    const auto view = log.view();
    CHECK(view.read_errors == 1000);
    REQUIRE(view.entries.size() == MediaLog::longest_list);
    CHECK(view.entries.front().error.range.offset == 999 * MiB);
}

TEST_CASE("a dying disk is reported now and then, with the number of errors in between") {
    TestClock clock;
    MediaLog log(clock);
    CHECK(log.note(read_error(0, 512)) == 0U);
    for (int i = 0; i < 500; ++i) {
        CHECK_FALSE(log.note(read_error(0, 512)));
    }
    clock.since_start += MediaLog::report_every;
    CHECK(log.note(read_error(0, 512)) == 500U);
    CHECK_FALSE(log.note(read_error(0, 512)));
}
