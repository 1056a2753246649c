// SPDX-License-Identifier: BSD-3-Clause
// What was good enough for a connection's beginning, held against the files as they are later.
#include "core/tls/standing.hpp"

#include <fstream>
#include <sys/stat.h>

#include "tls_pair.hpp"

using namespace mirror;
using namespace mirror::test;
using namespace std::chrono_literals;

namespace {

const SteadyTime start{};

tls::Proof proof_of(const tls::PskKey& key) {
    return {.key = key.name, .digest = tls::digest_of(key)};
}

struct Watched {
    KeyedNode node{{key_named("k1", 1), key_named("k2", 2)}};
    tls::Standing standing{node.credentials};
    SteadyTime now = start;

    Watched() { look_after(0s); }
    void look_after(std::chrono::seconds time) {
        now += time;
        REQUIRE(standing.look(now));
    }
    [[nodiscard]] std::string objection(const std::string& name, unsigned char fill) const {
        return standing.objection_to(proof_of(key_named(name, fill)));
    }
    void overwrite(const std::string& text, mode_t mode = 0600) const {
        std::ofstream(node.config.tls.psk_file) << text;
        REQUIRE(::chmod(node.config.tls.psk_file.c_str(), mode) == 0);
    }
};

std::string line(const std::string& name, const std::string& digits) {
    std::string hex;
    for (int at = 0; at < 32; ++at) {
        hex += digits;
    }
    return name + ":" + hex + "\n";
}

}  // namespace

TEST_CASE("keys that are in the file are good, in whatever order") {
    Watched watched;
    CHECK(watched.objection("k1", 1).empty());
    CHECK(watched.objection("k2", 2).empty());
    watched.node.write({key_named("k2", 2), key_named("k1", 1)});
    watched.look_after(1s);
    CHECK(watched.objection("k1", 1).empty());
    CHECK(watched.standing.trouble().empty());
}

TEST_CASE(
    "a key that was removed from is objected to at the next look, and one of its name with another "
    "secret as well") {
    Watched watched;
    watched.node.write({key_named("k2", 3)});
    watched.look_after(1s);
    CHECK(watched.objection("k1", 1).find("removed from") != std::string::npos);
    CHECK(watched.objection("k2", 2).find("another secret") != std::string::npos);
    CHECK(watched.objection("k2", 3).empty());
}

TEST_CASE("the proof of a handshake names its very key, on both sides") {
    const KeyedNode node({key_named("k1", 1)});
    auto client = node.credentials->dial("beta").value();
    auto server = node.credentials->accept().value();
    REQUIRE(shake_hands(client, server).server.has_value());
    CHECK(client.proof().digest == tls::digest_of(key_named("k1", 1)));
    CHECK(server.proof().digest == client.proof().digest);
    CHECK(tls::digest_of(key_named("k1", 1)) != tls::digest_of(key_named("k1", 2)));
    CHECK(tls::digest_of(key_named("k1", 1)) != tls::digest_of(key_named("k2", 1)));
}

TEST_CASE("a file that is missing for less than a minute takes no key along, and then all") {
    Watched watched;
    REQUIRE(std::remove(watched.node.config.tls.psk_file.c_str()) == 0);
    watched.look_after(1s);
    CHECK(watched.standing.trouble().find("existing connections are closed") != std::string::npos);
    watched.look_after(59s);
    CHECK(watched.objection("k1", 1).empty());
    watched.node.write({key_named("k1", 1)});
    watched.look_after(1s);
    CHECK(watched.standing.trouble().empty());
    CHECK(watched.objection("k1", 1).empty());
    REQUIRE(std::remove(watched.node.config.tls.psk_file.c_str()) == 0);
    watched.look_after(1s);  // the minute begins again
    watched.look_after(59s);
    CHECK(watched.objection("k1", 1).empty());
    watched.look_after(1s);
    CHECK(watched.objection("k1", 1).find("removed from") != std::string::npos);
}

TEST_CASE("a file that is missing from the beginning takes all keys along after the minute, too") {
    const KeyedNode node({key_named("k1", 1)});
    REQUIRE(std::remove(node.config.tls.psk_file.c_str()) == 0);
    tls::Standing standing(node.credentials);
    CHECK(standing.look(start));
    CHECK(standing.objection_to(proof_of(key_named("k1", 1))).empty());
    CHECK(standing.look(start + tls::Standing::patience));
    CHECK_FALSE(standing.objection_to(proof_of(key_named("k1", 1))).empty());
}

TEST_CASE("what an unusable file has nevertheless counts after a minute") {
    Watched watched;
    SUBCASE("others can read it: the key in it stays, the one removed from goes") {
        watched.overwrite(line("k2", "02"), 0644);
    }
    SUBCASE("a line is no key any more") {
        watched.overwrite("k1:0101\n" + line("k2", "02"));
    }
    watched.look_after(1s);
    CHECK_FALSE(watched.standing.trouble().empty());
    CHECK(watched.objection("k1", 1).empty());
    watched.look_after(60s);
    CHECK_FALSE(watched.objection("k1", 1).empty());
    CHECK(watched.objection("k2", 2).empty());
}

TEST_CASE("an empty file has no key after a minute, and a folder in its place tells nothing") {
    Watched watched;
    watched.overwrite("");
    watched.look_after(1s);
    CHECK(watched.objection("k1", 1).empty());
    watched.look_after(60s);
    CHECK_FALSE(watched.objection("k1", 1).empty());

    Watched other;
    REQUIRE(std::remove(other.node.config.tls.psk_file.c_str()) == 0);
    REQUIRE(::mkdir(other.node.config.tls.psk_file.c_str(), 0700) == 0);
    other.look_after(1s);
    other.look_after(600s);
    CHECK(other.objection("k1", 1).empty());
    CHECK_FALSE(other.standing.trouble().empty());
}
