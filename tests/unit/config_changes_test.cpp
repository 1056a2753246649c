// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/config_changes.hpp"

#include <map>

#include <doctest/doctest.h>

using namespace mirror;
using namespace mirror::daemon;

namespace {

using Needs = ConfigChange::Needs;

Config config_with(const std::string& volume_lines, const std::string& top = {},
                   const std::string& node_lines = {}, const std::string& more = {}) {
    const auto config = parse_config(top + "[node.alpha]\naddress = \"10.0.0.1:1\"\n" + node_lines +
                                         "[node.beta]\naddress = \"10.0.0.2:1\"\n[volume.r0]\n"
                                         "backing.alpha = \"/srv/a\"\nbacking.beta = \"/srv/b\"\n" +
                                         volume_lines + more,
                                     "/etc/mirrordisk/m.toml");
    REQUIRE(config);
    return *config;
}

/// The setting → what it needs.
std::map<std::string, Needs> needs_after(const Config& before, const Config& after, bool active) {
    std::map<std::string, Needs> needs;
    for (const ConfigChange& change :
         volume_changes(before, after, "alpha", [&](const std::string&) { return active; })) {
        needs[change.volume + "." + change.setting] = change.needs;
    }
    return needs;
}

const std::string second = "[volume.r1]\nbacking.alpha = \"/srv/c\"\nbacking.beta = \"/srv/d\"\n";

}  // namespace

TEST_CASE("each setting of a volume in use is in force, or says what it needs") {
    const Config before = config_with("");
    const std::vector<std::pair<std::string, Needs>> rows{
        {"peer_timeout = \"1s\"", Needs::nothing},
        {"on_peer_loss = \"stop\"", Needs::nothing},
        {"verify_rate = \"1MiB\"", Needs::nothing},
        {"hook_timeout = \"1s\"", Needs::nothing},
        {"active_at_boot = \"alpha\"", Needs::nothing},
        {"remote_verbs = \"none\"", Needs::nothing},
        {"size = \"1MiB\"", Needs::nothing},
        {"disk_timeout = \"1s\"", Needs::restart_engine},
        {"io_group = \"kvm\"", Needs::restart_engine},
        {"device = \"/dev/nbd0\"", Needs::standby},
    };
    for (const auto& [line, needs] : rows) {
        CAPTURE(line);
        const Config after = config_with(line + "\n");
        const std::string key = "r0." + line.substr(0, line.find(' '));
        const auto in_use = needs_after(before, after, true);
        REQUIRE(in_use.size() == 1);
        CHECK(in_use.at(key) == needs);
        CHECK(needs_after(before, after, false).at(key) == Needs::nothing);
    }
    CHECK(needs_after(before, before, true).empty());
}

TEST_CASE("volumes come and go, and one that is in use goes when it is demoted") {
    const Config one = config_with("");
    const Config two = config_with("", "", "", second);
    CHECK(needs_after(one, two, true).at("r1.") == Needs::nothing);
    CHECK(needs_after(two, one, false).at("r1.") == Needs::nothing);
    CHECK(needs_after(two, one, true).at("r1.") == Needs::standby);
}

TEST_CASE("what an earlier reload had to leave is told until it is in force") {
    const Config before = config_with("device = \"/dev/nbd0\"\n");
    const Config after = config_with("device = \"/dev/nbd1\"\n");
    const VolumeHome home{before.nodes.at("alpha"), before.volumes.at("r0"),
                          before.nodes.at("beta")};
    for (const bool in_use : {true, false}) {
        CAPTURE(in_use);
        const auto changes = kept_changes(home, after, in_use);
        REQUIRE(changes.size() == 1);
        CHECK(changes.front().setting == "device");
        CHECK(changes.front().was == "/dev/nbd0");
        CHECK(changes.front().now == "/dev/nbd1");
        CHECK(changes.front().needs == (in_use ? Needs::standby : Needs::nothing));
    }
    CHECK(kept_changes(home, before, true).empty());
    VolumeHome gone = home;
    gone.is_configured = false;
    Config without = after;
    without.volumes.clear();
    REQUIRE(kept_changes(gone, without, true).size() == 1);
    CHECK(words_of(kept_changes(gone, without, true).front()) ==
          "r0: removed; not in force yet: mirrorctl demote r0, then mirrorctl reload");
    CHECK(words_of(kept_changes(gone, without, false).front()) == "r0: removed");
}

TEST_CASE("two configurations say the same, or a reload is needed") {
    const Config one = config_with("");
    CHECK(say_the_same(one, config_with("")));
    CHECK_FALSE(say_the_same(one, config_with("peer_timeout = \"1s\"\n")));
    CHECK_FALSE(say_the_same(one, config_with("", "", "", second)));
    CHECK_FALSE(say_the_same(one, config_with("", "", "", "[node.gamma]\naddress = \"c:1\"\n")));
}

TEST_CASE("what belongs to the node waits for a restart, and stays as it was until then") {
    const Config before = config_with("");
    const Config after =
        config_with("peer_timeout = \"1s\"\n", "control_group = \"adm\"\ntls = \"x509\"\n",
                    "remote_verbs = \"none\"\n");
    const auto changes = node_changes(before, after, "alpha");
    REQUIRE(changes.size() == 3);
    for (const ConfigChange& change : changes) {
        CAPTURE(change.setting);
        CHECK(change.needs == Needs::restart_mirrord);
        CHECK(step_of(change) == "systemctl restart mirrord");
    }
    const Config taken = without_node_settings(before, after, "alpha");
    CHECK(taken.control_group.empty());
    CHECK(taken.tls.mode == TlsMode::psk);
    CHECK_FALSE(taken.nodes.at("alpha").remote_verbs);
    CHECK(taken.volumes.at("r0").peer_timeout == std::chrono::seconds(1));
    CHECK(node_changes(before, taken, "alpha").empty());
}

TEST_CASE("another own address is not told to anybody before mirrord listens there") {
    const Config before = config_with("");
    Config after = before;
    after.nodes.at("alpha").address.port = 9;
    after.nodes.at("beta").address.port = 8;
    after.volumes.at("r0").address = {{"alpha", {"10.0.0.1", 9}}, {"beta", {"10.0.0.2", 8}}};
    const Config taken = without_node_settings(before, after, "alpha");
    CHECK(taken.volumes.at("r0").address.at("alpha").port == 1);
    CHECK(taken.volumes.at("r0").address.at("beta").port == 8);
    CHECK(taken.nodes.at("beta").address.port == 8);
}

TEST_CASE("a volume with a node that mirrord did not know when it started waits for a restart") {
    const Config before = config_with("");
    Config after = config_with("", "", "",
                               "[node.gamma]\naddress = \"c:1\"\n[volume.r1]\n"
                               "backing.alpha = \"/srv/c\"\nbacking.gamma = \"/srv/d\"\n");
    const auto changes = hold_back_new_peers(before, before, after, "alpha");
    REQUIRE(changes.size() == 1);
    CHECK(changes.front().volume == "r1");
    CHECK(changes.front().needs == Needs::restart_mirrord);
    CHECK_FALSE(after.volumes.contains("r1"));
    CHECK(after.volumes.contains("r0"));
}
