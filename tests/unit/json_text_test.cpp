// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/json_text.hpp"

#include <array>
#include <string>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/control/comparison_requests.hpp"
#include "core/control/mailbox.hpp"

using namespace mirror;
using namespace mirror::control;

namespace {

std::string nested(std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
}

/// What an asker makes of an answer about a volume of ten regions.
Result<std::optional<std::uint64_t>> next_of(const char* answer, Bitmap& regions) {
    return add_regions(Json::parse(answer), regions);
}

}  // namespace

TEST_CASE("JSON that nests deeper than a message is not read, brackets in texts don't count") {
    CHECK_FALSE(parse_shallow(nested(max_depth)).is_discarded());
    CHECK(parse_shallow(nested(max_depth + 1)).is_discarded());
    CHECK(parse_shallow(nested(1'000'000)).is_discarded());
    CHECK_FALSE(parse_shallow("[\"" + std::string(100, '[') + "\\\"[\"]").is_discarded());
    CHECK(parse_shallow("{").is_discarded());
    CHECK(parse_shallow("").is_discarded());
}

TEST_CASE("a list of differing regions goes on within the volume or not at all") {
    Bitmap regions(10);
    const auto next = next_of(R"({"runs": [[0, 2], [3, 4]], "next": 4})", regions);
    REQUIRE(next.has_value());
    CHECK(*next == 4);
    CHECK(regions.count() == 3);
    CHECK(next_of(R"({"runs": [], "next": null})", regions).value() == std::nullopt);
    for (const char* lie : {R"({"runs": [], "next": 10})", R"({"runs": [[0, 11]], "next": null})",
                            R"({"runs": [[2, 2]], "next": null})", R"({"runs": [[0]]})",
                            R"({"runs": [], "next": 18446744073709551615})"}) {
        CAPTURE(lie);
        CHECK(next_of(lie, regions).error().kind == ErrorKind::protocol);
    }
    CHECK(regions.count() == 3);
}

TEST_CASE("a standby's change map sets the regions that it names and none beyond the end") {
    Bitmap regions(12);
    const std::array part{std::byte{0x81}, std::byte{0xF8}};
    add_listed_regions(part, 0, regions);
    CHECK(regions.count() == 3);  // 0, 7, and 11
    CHECK(regions.all({11, 12}));
    add_listed_regions(std::span(part).first<1>(), 8, regions);
    CHECK(regions.count() == 4);
    add_listed_regions(part, 1 << 20, regions);
    CHECK(regions.count() == 4);
}
