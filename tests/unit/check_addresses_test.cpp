// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/check_addresses.hpp"

#include <doctest/doctest.h>

#include "core/nbd/look_up.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

/// What alpha is told where the file says these hosts and they mean these numbers here.
std::vector<std::string> told(const std::string& alpha, const std::vector<std::string>& of_alpha,
                              const std::string& beta, const std::vector<std::string>& of_beta,
                              bool all_reached = false) {
    Config config;
    config.nodes["alpha"] = {.name = "alpha", .address = {alpha, 1}};
    config.nodes["beta"] = {.name = "beta", .address = {beta, 2}};
    return judge_addresses(config, "alpha", {{"alpha", of_alpha}, {"beta", of_beta}}, all_reached);
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("a name that is a loopback address is told, with the number and what to change") {
    CHECK(told("alpha", {"10.0.0.1"}, "beta", {"10.0.0.2"}).empty());
    CHECK(told("alpha", {"127.0.1.1", "10.0.0.1"}, "beta", {"10.0.0.2"}).empty());
    CHECK(
        told("alpha", {"127.0.1.1"}, "beta", {"10.0.0.2"}) ==
        Words{"alpha listens on alpha (127.0.1.1) only, a loopback address: no other machine can "
              "connect to it; correct alpha in /etc/hosts on this machine, or write the number of "
              "its network address into address of [node.alpha]"});
    CHECK(
        told("::1", {"::1"}, "beta", {"10.0.0.2"}) ==
        Words{"alpha listens on ::1 only, a loopback address: no other machine can connect to it; "
              "write the number of its network address into address of [node.alpha]"});
    const Words peers = told("alpha", {"10.0.0.1"}, "beta", {"10.0.0.2", "127.0.1.1"});
    REQUIRE(peers.size() == 1);
    CHECK(
        peers[0].starts_with("on this machine the address of beta is beta (127.0.1.1), a "
                             "loopback address"));
    // Both names in one line of /etc/hosts.
    CHECK(told("alpha", {"127.0.1.1"}, "beta", {"127.0.1.1"}).size() == 2);
}

TEST_CASE("two nodes of one machine may have loopback addresses") {
    CHECK(told("127.0.0.1", {"127.0.0.1"}, "127.0.0.1", {"127.0.0.1"}).empty());
    CHECK(told("localhost", {"::1", "127.0.0.1"}, "127.0.0.2", {"127.0.0.2"}).empty());
    CHECK(told("box", {"127.0.1.1"}, "box", {"127.0.1.1"}, true).empty());
}

TEST_CASE("a name that can't be looked up is told with its node") {
    Config config;
    config.nodes["alpha"] = {.name = "alpha", .address = {"no.such.invalid", 1}};
    const auto problems =
        judge_addresses(config, "alpha", {{"alpha", nbd::look_up("no.such.invalid")}}, false);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].starts_with("address of [node.alpha]: cannot look up 'no.such.invalid': "));
}

TEST_CASE("an address is looked up as numbers, each once") {
    CHECK(nbd::look_up("127.0.0.1").value() == std::vector<std::string>{"127.0.0.1"});
    CHECK(nbd::look_up("::1").value() == std::vector<std::string>{"::1"});
    CHECK(nbd::is_loopback("127.0.1.1"));
    CHECK(nbd::is_loopback("::1"));
    CHECK_FALSE(nbd::is_loopback("10.0.0.1"));
}
