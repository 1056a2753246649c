// SPDX-License-Identifier: BSD-3-Clause
// The table WHO MAY DO WHAT of the manual against the rules, cell by cell, and who is who.
// tests/e2e/test_who_may_what.py asks real processes, which have no certificates: so the nodes with
// another one's certificate ask here.
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>
#include <unistd.h>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/events/asked_by.hpp"
#include "daemon/audience.hpp"
#include "daemon/exports.hpp"
#include "daemon/requests.hpp"
#include "tests/unit/no_devices.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;
using test::NoDevices;

namespace {

constexpr gid_t group = 4711;

using Row = std::map<std::string, std::string>;

/// The rows of the page's table whose header begins with `first` and "root".
std::map<std::string, Row> read_table(const std::string& first) {
    const char* path = std::getenv("MIRRORDISK_PROTOCOL_PAGE");
    std::ifstream page(path != nullptr ? path : "docs/mirrordisk-protocol.pod");
    REQUIRE_MESSAGE(page, "set MIRRORDISK_PROTOCOL_PAGE to docs/mirrordisk-protocol.pod");
    std::map<std::string, Row> rows;
    std::vector<std::string> columns;
    for (std::string line; std::getline(page, line);) {
        std::istringstream words(line);
        std::vector<std::string> cells;
        for (std::string word; words >> word;) {
            cells.push_back(word);
        }
        if (columns.empty()) {
            if (cells.size() >= 7 && cells[0] == first && cells[1] == "root") {
                columns = cells;
            }
        } else if (!cells.empty()) {
            if (!line.starts_with(' ')) {
                break;
            }
            REQUIRE_MESSAGE(cells.size() == columns.size(), line);
            for (std::size_t i = 1; i < cells.size(); ++i) {
                rows[cells[0]][columns[i]] = cells[i];
            }
        }
    }
    REQUIRE_FALSE(rows.empty());
    return rows;
}

std::string letters(Places places) {
    return {places.active ? 'a' : '-', places.standby ? 's' : '-', places.absent ? 'n' : '-'};
}

const std::map<std::string, Who> columns{{"root", Who::root},
                                         {"group", Who::control_group},
                                         {"user", Who::other_user},
                                         {"peer", Who::peer},
                                         {"node", Who::other_node}};

nbd::Client local(uid_t uid, std::vector<gid_t> groups = {}) {
    return {.address = "unix", .uid = uid, .groups = std::move(groups)};
}

nbd::Client remote(const std::string& node, const std::string& key = "") {
    return {.address = "10.0.0.3:40112", .key = key, .node = node};
}

/// alpha shares r0 with beta and r1 with gamma; neither volume was made.
struct Alpha {
    test::TempDir dir;
    const Config config = parse_config(fmt::format(R"(
control_group = "operators"
[node.alpha]
address = "127.0.0.1:1"
run_dir = "{0}"
state_dir = "{0}"
[node.beta]
address = "127.0.0.1:2"
[node.gamma]
address = "127.0.0.1:3"
[volume.r0]
backing.alpha = "{0}/r0.img"
backing.beta = "{0}/r0.img"
[volume.r1]
backing.alpha = "{0}/r1.img"
backing.gamma = "{0}/r1.img"
)",
                                                   dir.path()),
                                       "m.toml")
                              .value();
    EventLog events{dir.path() + "/events.jsonl", "alpha", system_clock()};
    const Context context{config, **config.node("alpha"), system_clock(), events, group};
    NoDevices devices;
    PeerWatch peers{context};
    Keepers keepers;
    Requests requests{context, keepers, peers};
    Exports exports{requests, keepers};

    Alpha() {
        for (const auto& [name, home] : find_homes(config, context.node, {})) {
            REQUIRE(
                keepers.put(std::make_unique<VolumeKeeper>(context, home, peers, devices)).start());
        }
    }

    Error refusal(const Json& request, const nbd::Client& client) {
        const auto answer = requests.handle(request, client);
        return answer ? Error{.message = "answered"} : answer.error();
    }
    std::size_t events_of(const std::string& id) const {
        std::ifstream file(events.path());
        std::size_t count = 0;
        for (std::string line; std::getline(file, line);) {
            count += line.find('"' + id + '"') != std::string::npos ? 1U : 0U;
        }
        return count;
    }
};

}  // namespace

TEST_CASE("the manual's table of requests is the rules'") {
    const auto rows = read_table("request");
    CHECK(rows.size() > 30);
    for (const auto& entry : rows) {
        const auto& request = entry.first;
        const auto& row = entry.second;
        CAPTURE(request);
        const Rule* rule = rule_of(request);
        REQUIRE(rule != nullptr);
        for (const auto& heading : columns) {
            const auto& column = heading.first;
            const auto& who = heading.second;
            CAPTURE(column);
            CHECK(row.at(column) == letters(places_for(*rule, who)));
        }
        CHECK(row.at("stranger") == "---");
        CHECK(row.at("remote") == to_word(rule->remote));
        CHECK(row.at("harm") == to_word(rule->harm));
    }
}

TEST_CASE("what a peer may ask for has a level, and a verb that does harm is not always served") {
    for (const auto& entry : read_table("request")) {
        CAPTURE(entry.first);
        const Rule& rule = *rule_of(entry.first);
        CHECK((rule.remote == Remote::never) != rule.network.any());
        CHECK((rule.is_verb && rule.remote == Remote::always) == false);
    }
}

TEST_CASE("the manual's table of exports is the rules'") {
    for (const auto& entry : read_table("export")) {
        const auto& name = entry.first;
        const auto& row = entry.second;
        CAPTURE(name);
        for (const auto& heading : columns) {
            const auto& column = heading.first;
            const auto& who = heading.second;
            CAPTURE(column);
            CHECK(row.at(column) ==
                  letters(name == "control" ? mailbox_places(who) : replica_places(who)));
        }
        CHECK(row.at("stranger") == "---");
    }
}

TEST_CASE("who is who") {
    CHECK(who_is(local(0), group) == Who::root);
    CHECK(who_is(local(::geteuid()), group) == Who::root);
    const uid_t other = ::geteuid() + 60000;
    CHECK(who_is(local(other), group) == Who::other_user);
    CHECK(who_is(local(other, {1, group, 7}), group) == Who::control_group);
    CHECK(who_is(local(other, {1, 7}), group) == Who::other_user);
    CHECK(who_is(local(other, {1, group}), std::nullopt) == Who::other_user);
    // The kernel did not say who it is: that is nobody, and no peer either.
    CHECK(who_is({.address = "unix"}, group) == Who::other_user);

    CHECK(who_is(remote(""), group, "beta") == Who::peer);
    CHECK(who_is(remote("", "cluster"), group, "beta") == Who::peer);
    CHECK(who_is(remote("beta"), group, "beta") == Who::peer);
    CHECK(who_is(remote("gamma"), group, "beta") == Who::other_node);
    CHECK(who_is(remote("gamma"), group) == Who::peer);
}

TEST_CASE_FIXTURE(Alpha, "a node with another one's certificate is refused every request") {
    for (const auto& entry : read_table("request")) {
        const auto& request = entry.first;
        const auto& row = entry.second;
        CAPTURE(request);
        const Error error = refusal({{"request", request}, {"volume", "r0"}}, remote("gamma"));
        if (row.at("node") == "---") {
            CHECK(error.ground == Ground::who);
            CHECK(error.message.find("gamma") != std::string::npos);
        } else {
            CHECK(error.ground != Ground::who);
        }
        // Its own volume is another matter: there is no replica, and that is what it hears.
        if (rule_of(request)->network.any() && rule_of(request)->has_volume) {
            CHECK(refusal({{"request", request}, {"volume", "r1"}}, remote("gamma")).ground !=
                  Ground::who);
        }
    }
}

TEST_CASE("remote_verbs is a veto, and the stricter of node and volume counts") {
    const VolumeConfig volume{.name = "r0"};
    const auto served = [&](const char* request, RemoteVerbs level) {
        return require_remote(*rule_of(request), {.is_local = false, .remote = level}, volume,
                              "alpha")
            .has_value();
    };
    for (const char* request :
         {"promote", "demote", "connect", "disconnect", "resync", "verify", "resolve"}) {
        CAPTURE(request);
        CHECK_FALSE(served(request, RemoteVerbs::none));
        CHECK(served(request, RemoteVerbs::switched));
        CHECK(served(request, RemoteVerbs::full));
    }
    CHECK_FALSE(served("resize", RemoteVerbs::switched));
    CHECK(served("resize", RemoteVerbs::full));
    for (const char* request : {"attach", "undo-drop", "create", "switch", "restart-engine"}) {
        CAPTURE(request);
        CHECK_FALSE(served(request, RemoteVerbs::full));
    }
    CHECK(served("session-begin", RemoteVerbs::none));
    const auto refused = require_remote(*rule_of("resize"), {.is_local = false}, volume, "alpha");
    CHECK(refused.error().ground == Ground::who);
    CHECK(refused.error().remedy ==
          "on alpha: mirrorctl resize r0; or remote_verbs = \"full\" for r0 on alpha lets its peer "
          "do it");

    const auto effective = [](std::optional<RemoteVerbs> node, std::optional<RemoteVerbs> there) {
        return remote_verbs_of({.name = "alpha", .remote_verbs = node},
                               {.name = "r0", .remote_verbs = there});
    };
    CHECK(effective({}, {}) == RemoteVerbs::switched);
    CHECK(effective({}, RemoteVerbs::full) == RemoteVerbs::full);
    CHECK(effective(RemoteVerbs::none, {}) == RemoteVerbs::none);
    CHECK(effective(RemoteVerbs::none, RemoteVerbs::full) == RemoteVerbs::none);
    CHECK(effective(RemoteVerbs::full, RemoteVerbs::none) == RemoteVerbs::none);
}

TEST_CASE_FIXTURE(Alpha, "an event of a request says who asked, and what of it is a claim") {
    const auto last_asker = [&] {
        std::ifstream file(events.path());
        std::string last;
        for (std::string line; std::getline(file, line);) {
            last = line;
        }
        return Json::parse(last).at("asked_by");
    };
    (void)refusal({{"request", "peer-status"}, {"protocol", 3}, {"node", "nobody"}},
                  remote("", "cluster"));
    CHECK(last_asker() == Json{{"kind", "node"},
                               {"node", "nobody"},
                               {"proven", false},
                               {"key", "cluster"},
                               {"address", "10.0.0.3:40112"},
                               {"for_uid", nullptr}});
}

TEST_CASE("who asks is known in its thread, for as long as it asks") {
    CHECK(AskedBy::current() == nullptr);
    {
        const AskedByScope outer({.kind = AskedBy::Kind::local, .uid = 7});
        {
            const AskedByScope inner({.kind = AskedBy::Kind::node, .node = "beta"});
            CHECK(AskedBy::current()->node == "beta");
        }
        CHECK(to_json(*AskedBy::current()).dump() == R"({"kind":"local","uid":7})");
        std::thread([] { CHECK(AskedBy::current() == nullptr); }).join();
    }
    CHECK(AskedBy::current() == nullptr);
}

TEST_CASE_FIXTURE(Alpha, "a node with another one's certificate opens no export but the mailbox") {
    for (const auto& [row, cells] : read_table("export")) {
        std::string name = row;
        if (const auto at = name.find("VOLUME"); at != std::string::npos) {
            name.replace(at, 6, "r0");
        }
        CAPTURE(name);
        const auto opened = exports.open(name, remote("gamma"), [] {});
        if (cells.at("node") == "---") {
            REQUIRE_FALSE(opened);
            CHECK(opened.error().ground == Ground::who);
        } else {
            CHECK(opened);
        }
    }
    CHECK(exports.open("r1/changes", remote("gamma"), [] {}).error().ground == Ground::state);
    CHECK(events_of("request-refused") == 1);
}

TEST_CASE_FIXTURE(Alpha, "a certificate beats a claim") {
    const auto ask = [&](const std::string& claimed) {
        return refusal({{"request", "peer-status"},
                        {"node", claimed},
                        {"protocol", control::protocol_version}},
                       remote("gamma"));
    };
    CHECK(ask("gamma").message == "answered");
    CHECK(ask("beta").ground == Ground::who);
    CHECK(refusal({{"request", "session-begin"}, {"volume", "r0"}, {"source", "beta"}},
                  remote("gamma"))
              .ground == Ground::who);
    CHECK(refusal({{"request", "session-begin"}, {"volume", "r1"}, {"source", "beta"}},
                  remote("gamma"))
              .ground == Ground::who);
}

TEST_CASE_FIXTURE(Alpha, "a node with a certificate hears only about the volumes that it shares") {
    const Json request{{"request", "peer-status"}, {"protocol", control::protocol_version}};
    const auto names = [&](const nbd::Client& client) {
        std::string found;
        const Json answer = requests.handle(request, client).value();
        for (const auto& [name, settings] : answer["settings"].items()) {
            found += name + " ";
        }
        return found;
    };
    CHECK(names(remote("beta")) == "r0 ");
    CHECK(names(remote("gamma")) == "r1 ");
    CHECK(names(remote("", "cluster")) == "r0 r1 ");
}

TEST_CASE_FIXTURE(Alpha, "refusals over the network are one event in a while, local ones none") {
    const Json request{{"request", "attach"}, {"volume", "r0"}};
    CHECK(refusal(request, local(::geteuid() + 60000)).ground == Ground::who);
    CHECK(events_of("request-refused") == 0);
    for (int i = 0; i < 100; ++i) {
        CHECK(refusal(request, remote("beta")).ground == Ground::who);
    }
    CHECK(events_of("request-refused") == 1);
}
