// SPDX-License-Identifier: BSD-3-Clause
// The table of exit codes in mirrorctl(8) against the program's, for every combination.
#include "tools/verdict.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "tools/status_view.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

struct Row {
    std::string words;
    int status;
    std::string monitor;
};

/// The lines below " volume … status  --nagios" of the page.
std::vector<Row> read_table() {
    const char* protocol = std::getenv("MIRRORDISK_PROTOCOL_PAGE");
    const std::filesystem::path folder =
        protocol != nullptr ? std::filesystem::path(protocol).parent_path() : "docs";
    std::ifstream page(folder / "mirrorctl.pod");
    REQUIRE_MESSAGE(page, "set MIRRORDISK_PROTOCOL_PAGE to docs/mirrordisk-protocol.pod");
    std::vector<Row> rows;
    bool is_in_table = false;
    for (std::string line; std::getline(page, line);) {
        if (line.starts_with(" volume ") && line.ends_with("--nagios")) {
            is_in_table = true;
        } else if (is_in_table && !line.empty()) {
            if (!line.starts_with(' ')) {
                break;
            }
            const std::size_t monitor = line.find_last_of(' ') + 1;
            const std::size_t code = line.find_last_not_of(' ', monitor - 2);
            const std::size_t end = line.find_last_not_of(' ', code - 1);
            rows.push_back({line.substr(1, end), line[code] - '0', line.substr(monitor)});
        }
    }
    REQUIRE_FALSE(rows.empty());
    return rows;
}

struct Case {
    std::string state;
    std::string role;
    std::string peer_role;
    std::optional<bool> holds;
    std::uint64_t differs = 0;
    std::string device_state;  ///< empty: null

    [[nodiscard]] Json volume() const {
        return {{"name", "r0"},
                {"state", state},
                {"role", role},
                {"holds_writes", holds ? Json(*holds) : Json()},
                {"device", "/dev/nbd0"},
                {"device_state", device_state.empty() ? Json() : Json(device_state)},
                {"peers",
                 {{{"node", "beta"},
                   {"role", peer_role},
                   {"verify", {{"state", "finished"}, {"unrepaired_bytes", differs}}}}}}};
    }
    [[nodiscard]] bool is_active_somewhere() const {
        return role == "active" || peer_role == "active";
    }
    [[nodiscard]] std::string activity() const {
        if (is_active_somewhere()) {
            return {};
        }
        return peer_role == "standby" ? ", active on no node" : ", active node unknown";
    }
    /// The manual's words for it.
    [[nodiscard]] std::vector<std::string> rows() const {
        std::vector<std::string> found;
        if (state == "in-sync") {
            found.push_back(state + activity());
        } else if (state == "broken") {
            found.push_back(state + (activity() == ", active on no node" ? activity() : ""));
        } else {
            found.push_back(state == "of the future" || state.empty() ? "another state" : state);
        }
        if (holds.value_or(false) && state != "starting") {
            found.emplace_back("writes are held");
        }
        if (differs != 0) {
            found.emplace_back("verify found differences");
        }
        if (role == "active" && (device_state == "detached" || device_state == "reconnecting" ||
                                 device_state == "foreign")) {
            found.emplace_back("device not attached");
        }
        return found;
    }
};

void for_each_case(const std::function<void(const Case&)>& look) {
    for (const char* state : {"in-sync", "resyncing", "broken", "starting", "new", "peer-unknown",
                              "diverged", "failed", "of the future", ""}) {
        for (const char* role : {"active", "standby"}) {
            for (const char* peer_role : {"active", "standby", "unknown"}) {
                for (const std::optional<bool> holds :
                     {std::optional<bool>(), std::optional(false), std::optional(true)}) {
                    for (const std::uint64_t differs : {std::uint64_t{0}, std::uint64_t{4096}}) {
                        for (const char* device_state :
                             {"", "attached", "reconnecting", "detached", "foreign", "dropped"}) {
                            look({state, role, peer_role, holds, differs, device_state});
                        }
                    }
                }
            }
        }
    }
}

const std::map<std::string, int> codes{{"OK", 0}, {"WARNING", 1}, {"CRITICAL", 2}, {"UNKNOWN", 3}};

/// 2 before 3 before 1 before 0, as the manual says.
int worse(int one, int other) {
    const std::string order = "0132";
    return order.find(static_cast<char>('0' + one)) > order.find(static_cast<char>('0' + other))
               ? one
               : other;
}

}  // namespace

TEST_CASE("the manual's table of exit codes is the program's") {
    const std::vector<Row> rows = read_table();
    const auto conditions = all_conditions();
    REQUIRE(rows.size() == conditions.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        CAPTURE(rows[i].words);
        CHECK(rows[i].words == conditions[i].words);
        CHECK(rows[i].status == conditions[i].status);
        CHECK(rows[i].monitor == monitor_word(conditions[i].monitor));
    }
}

TEST_CASE("in every combination the worst row of the manual's table decides") {
    std::map<std::string, Row> rows;
    for (Row& row : read_table()) {
        rows.emplace(row.words, row);
    }
    std::map<std::string, int> met;
    for_each_case([&](const Case& each) {
        int status = 0;
        int monitor = 0;
        std::string words;
        for (const std::string& row : each.rows()) {
            REQUIRE_MESSAGE(rows.count(row) == 1, row);
            words += row + "; ";
            status = worse(status, rows.at(row).status);
            monitor = worse(monitor, codes.at(rows.at(row).monitor));
            ++met[row];
        }
        const Json volume = each.volume();
        CAPTURE(volume.dump());
        CAPTURE(words);
        CHECK(status_exit_code({{"volumes", {volume}}}) == status);
        CHECK(monitor_code_of(volume) == monitor);
    });
    CHECK(met.size() == rows.size());
}

TEST_CASE("what is not known is never fine, and the worst volume decides") {
    for (const Json& odd : {Json(), Json(3), Json::object(), Json{{"state", nullptr}}}) {
        CHECK(status_code_of(odd) == status_unknown);
        CHECK(monitor_code_of(odd) == monitor_unknown);
    }
    for (int one = 0; one < 4; ++one) {
        for (int other = 0; other < 4; ++other) {
            CHECK(worse_code(one, other) == worse(one, other));
        }
    }
}
