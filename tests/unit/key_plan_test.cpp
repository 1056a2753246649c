// SPDX-License-Identifier: BSD-3-Clause
// Keys of two and of three nodes from the first to the end of a rotation. What is asked of each
// step: at every moment whatever key a node uses is accepted by the other.
#include "tools/key_plan.hpp"

#include <algorithm>
#include <map>

#include <doctest/doctest.h>

using namespace mirror;
using namespace mirror::tools;
using tls::PskKey;
using tls::PskKeys;

namespace {

const std::vector<std::string> nodes{"alpha", "beta", "gamma"};

struct Cluster {
    std::map<std::string, PskKeys> files;

    static KeyOwners owners(const std::string& node, const std::string& with = {}) {
        KeyOwners owners{node, nodes, with};
        std::erase(owners.others, node);
        return owners;
    }
    /// As the person does who was told to.
    void carry_out(const std::string& node, const KeyPlan& plan) {
        files[node] = plan.keys;
        for (const Handout& other : plan.others) {
            if (other.way == Way::copy) {
                files[other.node] = plan.keys;
            } else if (other.way == Way::whole_file) {
                files[other.node] = other.keys;
            } else if (other.way == Way::take) {
                files[other.node] =
                    plan_take(files[other.node], other.keys, owners(other.node)).value().keys;
            }
            require_connections();
        }
    }
    /// What each uses towards each, the other has.
    void require_connections() const {
        for (const auto& [client, ours] : files) {
            for (const auto& [server, theirs] : files) {
                if (client == server) {
                    continue;
                }
                const PskKey* used = tls::key_towards(ours, {client, server});
                REQUIRE(used != nullptr);
                const PskKeys accepted = tls::keys_accepted(theirs, server, nodes);
                CHECK(std::any_of(accepted.begin(), accepted.end(), [&](const PskKey& key) {
                    return key.name == used->name && key.secret == used->secret;
                }));
            }
        }
    }
    [[nodiscard]] std::string used(const std::string& client, const std::string& server) const {
        return tls::key_towards(files.at(client), {client, server})->name;
    }
};

Cluster first_keys() {
    Cluster cluster;
    const auto plan = plan_first(Cluster::owners("alpha"));
    cluster.files["alpha"] = plan->keys;
    for (const Handout& other : plan->others) {
        REQUIRE(other.way == Way::whole_file);
        cluster.files[other.node] = other.keys;
    }
    cluster.require_connections();
    return cluster;
}

}  // namespace

TEST_CASE("of three nodes none gets a key of the two others") {
    const Cluster cluster = first_keys();
    for (const auto& [node, keys] : cluster.files) {
        CHECK(keys.size() == 4);
        for (const PskKey& key : keys) {
            CHECK(tls::direction_of(key.name)->has(node));
        }
    }
}

TEST_CASE("two nodes have the same file, and it is copied") {
    const auto plan = plan_first({"alpha", {"beta"}});
    REQUIRE(plan.has_value());
    CHECK(plan->keys.size() == 2);
    CHECK(plan->others.at(0).way == Way::copy);
    const auto added = plan_add(plan->keys, {"alpha", {"beta"}}, false);
    REQUIRE(added.has_value());
    CHECK(added->keys.size() == 4);
    CHECK(added->others.at(0).way == Way::copy);
    CHECK(plan_next(added->keys, {"alpha", {"beta"}})->others.at(0).way == Way::copy);
    CHECK(plan_retire(added->keys, {"alpha", {"beta"}})->keys.size() == 2);
}

TEST_CASE("a node alone gets a key all the same") {
    CHECK(plan_first({"alpha", {}})->keys.size() == 1);
}

TEST_CASE("a rotation of one node's keys goes through all nodes without a moment in between") {
    Cluster cluster = first_keys();
    const std::string before = cluster.used("alpha", "beta");
    const std::string others = cluster.used("beta", "gamma");
    cluster.carry_out("alpha",
                      plan_add(cluster.files["alpha"], Cluster::owners("alpha"), false).value());
    CHECK(cluster.files["alpha"].size() == 8);
    CHECK(cluster.files["beta"].size() == 6);
    CHECK(cluster.used("alpha", "beta") == before);
    for (const std::string& node : nodes) {
        cluster.carry_out(node, plan_next(cluster.files[node], Cluster::owners(node)).value());
        cluster.require_connections();
    }
    CHECK(cluster.used("alpha", "beta") != before);
    CHECK(cluster.used("beta", "gamma") == others);
    for (const std::string& node : nodes) {
        cluster.carry_out(node, plan_retire(cluster.files[node], Cluster::owners(node)).value());
        cluster.require_connections();
        CHECK(cluster.files[node].size() == 4);
    }
}

TEST_CASE("keys of each two nodes take the place of the cluster's without a moment in between") {
    Cluster cluster;
    const PskKey old = tls::new_psk_key().value();
    for (const std::string& node : nodes) {
        cluster.files[node] = {old};
    }
    cluster.carry_out("alpha",
                      plan_add(cluster.files["alpha"], Cluster::owners("alpha"), true).value());
    CHECK(cluster.used("alpha", "beta") == old.name);
    CHECK(cluster.files["gamma"].size() == 5);
    CHECK_FALSE(plan_add(cluster.files["gamma"], Cluster::owners("gamma"), true).has_value());
    for (const std::string& node : nodes) {
        cluster.carry_out(node, plan_next(cluster.files[node], Cluster::owners(node)).value());
        cluster.require_connections();
    }
    for (const std::string& node : nodes) {
        cluster.carry_out(node, plan_retire(cluster.files[node], Cluster::owners(node)).value());
        cluster.require_connections();
    }
    for (const auto& [node, keys] : cluster.files) {
        CHECK(keys.size() == 4);
    }
}

TEST_CASE("keys with one node alone can be changed, and taken out") {
    Cluster cluster = first_keys();
    const auto with_beta = Cluster::owners("alpha", "beta");
    cluster.carry_out("alpha", plan_add(cluster.files["alpha"], with_beta, false).value());
    CHECK(cluster.files["alpha"].size() == 6);
    CHECK(cluster.files["gamma"].size() == 4);
    const auto removed = plan_remove(cluster.files["alpha"], Cluster::owners("alpha", "beta"));
    REQUIRE(removed.has_value());
    CHECK(removed->keys.size() == 2);
    CHECK(removed->others.size() == 1);
    CHECK_FALSE(plan_remove(removed->keys, Cluster::owners("alpha", "beta")).has_value());
    CHECK(plan_remove(removed->keys, Cluster::owners("alpha", "gamma"))
              .error()
              .remedy.find("delete the file") != std::string::npos);
    CHECK_FALSE(
        plan_remove({tls::new_psk_key().value()}, Cluster::owners("alpha", "beta")).has_value());
}

TEST_CASE("what is not for this node, or another key of the same name, is not taken") {
    Cluster cluster = first_keys();
    const PskKeys& beta = cluster.files["beta"];
    CHECK_FALSE(plan_take(cluster.files["alpha"], beta, Cluster::owners("alpha")).has_value());
    PskKey forged = cluster.files["alpha"].front();
    forged.secret.assign(32, std::byte{1});
    CHECK_FALSE(plan_take(cluster.files["alpha"], {forged}, Cluster::owners("alpha")).has_value());
    const auto same =
        plan_take(cluster.files["alpha"], cluster.files["alpha"], Cluster::owners("alpha"));
    REQUIRE(same.has_value());
    CHECK(same->keys.size() == 4);
    CHECK(plan_take({}, cluster.files["alpha"], Cluster::owners("alpha"))->keys.size() == 4);
}

TEST_CASE("no step is done twice, or before its time") {
    const Cluster cluster = first_keys();
    const PskKeys& keys = cluster.files.at("alpha");
    CHECK_FALSE(plan_next(keys, Cluster::owners("alpha")).has_value());
    CHECK_FALSE(plan_retire(keys, Cluster::owners("alpha")).has_value());
    const auto added = plan_add(keys, Cluster::owners("alpha"), false).value();
    CHECK_FALSE(plan_add(added.keys, Cluster::owners("alpha"), false).has_value());
}
