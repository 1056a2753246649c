// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/pages.hpp"

#include <map>

#include <doctest/doctest.h>

using namespace mirror;
using namespace mirror::control;
using nlohmann::json;

namespace {

/// Answers about volumes v00 … v19, each a third of what fits.
Result<json> answer(const json& request) {
    auto page = Page::asked_for_by(request);
    if (!page) {
        return Failure(page.error());
    }
    json volumes = json::object();
    for (int i = 0; i < 20; ++i) {
        const std::string name = fmt::format("v{:02}", i);
        if (!page->wants(name)) {
            continue;
        }
        json entry = std::string(Page::most_bytes / 3, 'x');
        if (page->has_room_for(name, entry)) {
            volumes[name] = std::move(entry);
        }
    }
    json all{{"volumes", std::move(volumes)}, {"keys", json::array({"k"})}};
    page->note_next(all);
    return all;
}

}  // namespace

TEST_CASE("an answer in pages is what it would be in one") {
    int pages = 0;
    const auto ask = [&](const json& request) {
        ++pages;
        return answer(request);
    };
    const auto all = ask_for_pages(ask, {{"request", "peer-status"}}, {"volumes"});
    REQUIRE(all);
    CHECK(pages == 10);
    CHECK(*all == *answer({{"request", "peer-status"}}));
}

TEST_CASE("an entry that is larger than a page comes alone, and does not end the answer") {
    auto page = Page::asked_for_by({{"from", ""}});
    REQUIRE(page);
    CHECK(page->has_room_for("a", std::string(Page::most_bytes + 1, 'x')));
    CHECK_FALSE(page->has_room_for("b", "small"));
    CHECK_FALSE(page->wants("c"));
    json all;
    page->note_next(all);
    CHECK(all["next"] == "b");
}

TEST_CASE("who knows no pages is asked once") {
    int asked = 0;
    const auto all = ask_for_pages(
        [&](const json&) -> Result<json> {
            ++asked;
            return json{{"volumes", {{"r0", 1}}}};
        },
        json::object(), {"volumes"});
    REQUIRE(all);
    CHECK(asked == 1);
}

TEST_CASE("an answer whose pages do not continue is no endless one") {
    const auto same = [](const json&) -> Result<json> {
        return json{{"volumes", json::object()}, {"next", "r0"}};
    };
    const auto all = ask_for_pages(same, json::object(), {"volumes"});
    REQUIRE_FALSE(all);
    CHECK(all.error().kind == ErrorKind::protocol);
    const auto odd = [](const json&) -> Result<json> { return json{{"next", 7}}; };
    CHECK_FALSE(ask_for_pages(odd, json::object(), {"volumes"}));
    CHECK_FALSE(Page::asked_for_by({{"from", 7}}));
}

TEST_CASE("a page that fails is the failure of all") {
    int asked = 0;
    const auto all = ask_for_pages(
        [&](const json&) -> Result<json> {
            if (++asked > 1) {
                return fail(ErrorKind::timed_out, "no answer");
            }
            return json{{"volumes", json::object()}, {"next", "r1"}};
        },
        json::object(), {"volumes"});
    REQUIRE_FALSE(all);
    CHECK(all.error().kind == ErrorKind::timed_out);
}
