// SPDX-License-Identifier: BSD-3-Clause
// Who makes way for whom when the NBD server's places are taken, and what is not even received.
#include <filesystem>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "nbd_fixture.hpp"

using namespace mirror;
using namespace mirror::test;
using nbd::Command;
using nbd::Option;
using nbd::OptionReply;

namespace {

constexpr const char* crowd = "127.0.0.2";
constexpr const char* peer = "127.0.0.3";

struct NetworkFixture : Fixture {
    explicit NetworkFixture(nbd::ServerLimits limits) : Fixture(limits) {
        const Result<std::uint16_t> bound = server.listen_tcp({"127.0.0.1", 0});
        REQUIRE_MESSAGE(bound, bound.error().text());
        port = *bound;
    }
    std::uint16_t port = 0;
};

using Clients = std::vector<std::unique_ptr<RawClient>>;

/// So many connections, each of which the server has taken.
void flood(NetworkFixture& fixture, Clients& clients, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
        const auto before = fixture.server.counters().accepted;
        clients.push_back(std::make_unique<RawClient>(crowd, fixture.port));
        REQUIRE(eventually([&] { return fixture.server.counters().accepted > before; }));
    }
}

}  // namespace

TEST_CASE("an address that floods makes way for itself, not the peer at another one") {
    NetworkFixture fixture({.handshaking = 4});
    Clients strangers;
    RawClient slow_peer(peer, fixture.port);
    flood(fixture, strangers, 50);
    CHECK(fixture.server.counters().dropped >= 46);
    slow_peer.open();  // though it was the oldest all the time
    CHECK(fixture.server.counters().open == 1);
}

TEST_CASE("the network takes no place from local programs, nor they from it") {
    NetworkFixture fixture({.handshaking = 2, .open = 2, .kept_for_root = 0});
    Clients strangers;
    flood(fixture, strangers, 2);
    for (int i = 0; i < 2; ++i) {
        strangers.push_back(std::make_unique<RawClient>(peer, fixture.port));
        strangers.back()->open();
    }
    RawClient local(fixture.socket), other(fixture.socket);
    local.open();
    other.open();
    CHECK(fixture.server.counters().open == 4);
    RawClient third(fixture.socket);
    third.greet();
    CHECK(third.ask(Option::go, RawClient::named("disk")).type == OptionReply::err_policy);
}

TEST_CASE("other users' programs keep root neither out of the handshake nor out of an export") {
    if (::geteuid() != 0) {
        return;
    }
    Fixture fixture({.handshaking = 3, .open = 2, .kept_for_root = 1});
    REQUIRE(::chmod(fixture.socket.c_str(), 0666) == 0);
    REQUIRE(::chmod(std::filesystem::path(fixture.socket).parent_path().c_str(), 0755) == 0);
    const auto as_stranger = [](const auto& what) {
        constexpr uid_t stranger = 65533;
        REQUIRE(::seteuid(stranger) == 0);
        what();
        REQUIRE(::seteuid(0) == 0);
    };
    RawClient ours(fixture.socket);
    Clients others;
    as_stranger([&] {
        for (int i = 0; i < 2; ++i) {
            others.push_back(std::make_unique<RawClient>(fixture.socket));
            others.back()->open();
        }
        RawClient third(fixture.socket);
        third.greet();
        CHECK(third.ask(Option::go, RawClient::named("disk")).type == OptionReply::err_policy);
        for (unsigned i = 0; i < 20; ++i) {
            const auto before = fixture.server.counters().accepted;
            others.push_back(std::make_unique<RawClient>(fixture.socket));
            REQUIRE(eventually([&] { return fixture.server.counters().accepted > before; }));
        }
    });
    ours.open();  // though it was the oldest of all, and their places are taken
    CHECK(fixture.server.counters().open == 3);
    RawClient second(fixture.socket);
    second.greet();
    CHECK(second.ask(Option::go, RawClient::named("disk")).type == OptionReply::err_policy);
}

TEST_CASE("one address does not get all places") {
    NetworkFixture fixture({.open = 3, .open_of_one_peer = 2});
    RawClient first(crowd, fixture.port), second(crowd, fixture.port), third(crowd, fixture.port);
    first.open();
    second.open();
    third.greet();
    CHECK(third.ask(Option::go, RawClient::named("disk")).type == OptionReply::err_policy);
    RawClient good(peer, fixture.port);
    good.open();
    first.close();
    REQUIRE(eventually([&] { return fixture.server.counters().open == 2; }));
    CHECK(third.ask(Option::go, RawClient::named("disk")).type == OptionReply::ack);
}

TEST_CASE("a write that is longer than its export is not received") {
    Fixture fixture;
    fixture.disk.traits.size = 1 * MiB;
    RawClient client(fixture.socket);
    client.open();
    // Without its data: whoever waits for them would wait for ever.
    REQUIRE(client.send(Message().request(Command::write, 0, 1, 0, 1 * MiB + 1)));
    CHECK(client.is_closed());
}

TEST_CASE("a write to what is read-only is refused, a large one not received") {
    Fixture fixture;
    fixture.disk.traits.read_only = true;
    RawClient client(fixture.socket);
    client.open();
    REQUIRE(client.send(Message().request(Command::write, 0, 1, 0, 4096).fill(4096, 1)));
    CHECK(client.number<std::uint32_t>() == nbd::simple_reply_magic);
    CHECK(client.number<std::uint32_t>() == static_cast<std::uint32_t>(nbd::WireError::perm));
    (void)client.number<std::uint64_t>();
    REQUIRE(client.send(Message().request(Command::write, 0, 1, 0, 1 * MiB)));
    CHECK(client.is_closed());
}
