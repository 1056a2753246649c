// SPDX-License-Identifier: BSD-3-Clause
#include "tools/progress.hpp"

#include <doctest/doctest.h>

#include "core/base/json.hpp"

using namespace mirror::tools;

namespace {

constexpr std::uint64_t mib = 1024 * 1024;

Json resyncing(std::uint64_t done, std::uint64_t total) {
    return {{"name", "r0"},
            {"state", "resyncing"},
            {"why", "x"},
            {"peers", {{{"resync", {{"done_bytes", done}, {"total_bytes", total}}}}}}};
}

}  // namespace

TEST_CASE("the percentage never passes 100, and is 100 only at the end") {
    CHECK(Progress{.done_bytes = 0, .total_bytes = 10, .bytes_per_second = {}, .eta_seconds = {}}
              .percent() == 0);
    CHECK(Progress{
              .done_bytes = 9999, .total_bytes = 10000, .bytes_per_second = {}, .eta_seconds = {}}
              .percent() == 99);
    CHECK(Progress{.done_bytes = 11, .total_bytes = 10, .bytes_per_second = {}, .eta_seconds = {}}
              .percent() == 100);
    CHECK(Progress{}.percent() == 100);
}

TEST_CASE("a bar fits the width and fills with the share") {
    const Progress half{.done_bytes = 5 * mib,
                        .total_bytes = 10 * mib,
                        .bytes_per_second = 2.0 * mib,
                        .eta_seconds = 2.5};
    CHECK(progress_words(half) == "50 %, 5 MiB of 10 MiB, 2 MiB/s, 2.5 s left");
    CHECK(progress_bar(half, 65) ==
          "[==========>         ] 50 %, 5 MiB of 10 MiB, 2 MiB/s, 2.5 s left");
    CHECK(progress_bar(half, 0).starts_with("[=====>    ] 50 %"));
}

TEST_CASE("what is not known is said so, or left out") {
    const Progress start{
        .done_bytes = 0, .total_bytes = mib, .bytes_per_second = {}, .eta_seconds = {}};
    CHECK(progress_words(start) == "0 %, 0 B of 1 MiB, time left unknown");
    const Progress done{
        .done_bytes = mib, .total_bytes = mib, .bytes_per_second = 0, .eta_seconds = {}};
    CHECK(progress_words(done) == "100 %, 1 MiB of 1 MiB");
}

TEST_CASE("a pipe gets a line for each tenth and each change, and no line twice") {
    ChangeLines lines;
    const Json broken{{"name", "r0"}, {"state", "broken"}, {"why", "beta is silent"}};
    CHECK(lines.next(broken) == "r0: broken: beta is silent");
    CHECK_FALSE(lines.next(broken));
    CHECK(lines.next(resyncing(0, 100 * mib)));
    CHECK_FALSE(lines.next(resyncing(9 * mib, 100 * mib)));
    CHECK(lines.next(resyncing(10 * mib, 100 * mib)));
    CHECK_FALSE(lines.next(resyncing(19 * mib, 100 * mib)));
    CHECK(lines.next(broken));
    CHECK(lines.next(resyncing(19 * mib, 100 * mib)));
}

TEST_CASE("the resyncs of several peers are summed") {
    Json volume = resyncing(1, 10);
    volume["peers"].push_back({{"resync", {{"done_bytes", 3}, {"total_bytes", 10}}}});
    volume["peers"].push_back({{"resync", nullptr}});
    const auto sum = resync_of(volume);
    REQUIRE(sum);
    CHECK(sum->done_bytes == 4);
    CHECK(sum->total_bytes == 20);
    CHECK_FALSE(resync_of(Json::object()));
}
