// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <map>
#include <memory>

#include "core/base/units.hpp"
#include "core/tls/session.hpp"
#include "tls_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

using Bytes = std::vector<std::byte>;

struct Pair {
    KeyedNode node{{key_named("k1", 1)}};
    tls::Session client = node.credentials->dial("beta").value();
    tls::Session server = node.credentials->accept().value();

    Pair() {
        const Outcome outcome = shake_hands(client, server);
        REQUIRE(outcome.client.has_value());
        REQUIRE(outcome.server.has_value());
    }
};

/// All that `to` can read once `from` has said everything.
Bytes transfer(tls::Session& from, tls::Session& to) {
    Bytes all;
    Bytes part(100000);
    for (bool more = true; more;) {
        more = carry(from, to);
        for (;;) {
            const auto got = to.receive(part);
            REQUIRE(got.has_value());
            if (*got == 0) {
                break;
            }
            all.insert(all.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(*got));
        }
    }
    return all;
}

}  // namespace

TEST_CASE("who knows the key is let in, and both sides know which one it was") {
    Pair pair;
    CHECK(pair.server.proof().key == "k1");
    CHECK(pair.client.proof().key == "k1");
    CHECK(pair.server.proof().node.empty());
    CHECK_FALSE(pair.server.proof().cipher.empty());
}

TEST_CASE("what is sent arrives whole and in order, in both directions") {
    Pair pair;
    Bytes data(3 * MiB);
    for (std::size_t at = 0; at < data.size(); ++at) {
        data[at] = static_cast<std::byte>(at * 7 / 3);
    }
    REQUIRE(pair.client.send(data).has_value());
    CHECK(transfer(pair.client, pair.server) == data);
    REQUIRE(pair.server.send(data).has_value());
    CHECK(transfer(pair.server, pair.client) == data);
}

TEST_CASE("nothing of what is sent can be seen on the way") {
    Pair pair;
    const Bytes data(4096, std::byte{'x'});
    REQUIRE(pair.client.send(data).has_value());
    const auto output = pair.client.output();
    CHECK(output.size() > data.size());
    CHECK(std::search_n(output.begin(), output.end(), 8, std::byte{'x'}) == output.end());
}

TEST_CASE("a bit that is flipped on the way is noticed, and nothing of its record is believed") {
    Pair pair;
    REQUIRE(pair.client.send(Bytes(4096, std::byte{'x'})).has_value());
    const auto space = pair.server.input_space();
    std::copy(pair.client.output().begin(), pair.client.output().end(), space.begin());
    space[2000] ^= std::byte{1};
    pair.server.input_filled(pair.client.output().size());
    Bytes into(4096);
    const auto got = pair.server.receive(into);
    REQUIRE_FALSE(got.has_value());
    CHECK(got.error().kind == ErrorKind::corrupt);
    // The other side is told.
    carry(pair.server, pair.client);
    const auto told = pair.client.receive(into);
    REQUIRE_FALSE(told.has_value());
    CHECK(told.error().kind == ErrorKind::corrupt);
}

TEST_CASE("records that are repeated or left out are noticed") {
    for (const bool repeated : {true, false}) {
        Pair pair;
        const Bytes data(100, std::byte{'x'});
        Bytes into(1000);
        REQUIRE(pair.client.send(data).has_value());
        const Bytes record(pair.client.output().begin(), pair.client.output().end());
        if (repeated) {
            carry(pair.client, pair.server);
            CHECK(pair.server.receive(into).value() == data.size());
            const auto space = pair.server.input_space();
            std::copy(record.begin(), record.end(), space.begin());
            pair.server.input_filled(record.size());
        } else {
            pair.client.output_taken(record.size());
            REQUIRE(pair.client.send(data).has_value());
            carry(pair.client, pair.server);
        }
        CHECK_FALSE(pair.server.receive(into).has_value());
    }
}

TEST_CASE("an end that was said is told from a connection that was cut") {
    Bytes into(100);
    {
        Pair pair;
        pair.client.say_goodbye();
        carry(pair.client, pair.server);
        CHECK(pair.server.receive(into).value() == 0);
        CHECK(pair.server.is_ended());
    }
    Pair pair;
    pair.server.input_ended();
    const auto got = pair.server.receive(into);
    REQUIRE_FALSE(got.has_value());
    CHECK(got.error().kind == ErrorKind::unreachable);
}

TEST_CASE("who has another key, or none of that name, is refused and told so") {
    const KeyedNode server({key_named("k1", 1)});
    for (const auto& key : {key_named("k1", 2), key_named("k2", 1)}) {
        const KeyedNode client({key});
        auto ours = client.credentials->dial("beta").value();
        auto theirs = server.credentials->accept().value();
        const Outcome outcome = shake_hands(ours, theirs);
        REQUIRE_FALSE(outcome.server.has_value());
        REQUIRE_FALSE(outcome.client.has_value());
        CHECK(outcome.client.error().kind == ErrorKind::refused);
        CHECK(outcome.client.error().message.find(key.name) != std::string::npos);
    }
}

TEST_CASE("during a rotation either key is accepted, and the first is used") {
    const KeyedNode changed({key_named("new", 2), key_named("old", 1)});
    const KeyedNode not_yet({key_named("old", 1), key_named("new", 2)});
    for (const auto& [client, server, used] :
         {std::tuple(&changed, &not_yet, "new"), {&not_yet, &changed, "old"}}) {
        auto ours = client->credentials->dial("beta").value();
        auto theirs = server->credentials->accept().value();
        REQUIRE(shake_hands(ours, theirs).server.has_value());
        CHECK(theirs.proof().key == used);
    }
}

TEST_CASE("the file is read anew for each connection") {
    const KeyedNode node({key_named("k1", 1)});
    node.write({key_named("k2", 2)});
    CHECK(node.credentials->names().value() == std::vector<std::string>{"k2"});
    auto client = node.credentials->dial("beta").value();
    auto server = node.credentials->accept().value();
    REQUIRE(shake_hands(client, server).server.has_value());
    CHECK(server.proof().key == "k2");
}

TEST_CASE("without a usable file nobody is let in, and the reason is given") {
    const KeyedNode node({key_named("k1", 1)});
    REQUIRE(std::remove(node.config.tls.psk_file.c_str()) == 0);
    CHECK(node.credentials->accept().error().text().find("keygen") != std::string::npos);
    CHECK_FALSE(node.credentials->dial("beta").has_value());
}

namespace {

/// Keys of three nodes in both directions, and each node's part of them.
struct ThreeNodes {
    tls::PskKeys all;
    std::map<std::string, std::unique_ptr<KeyedNode>> nodes;

    ThreeNodes() {
        const std::vector<std::string> names{"alpha", "beta", "gamma"};
        for (const std::string& client : names) {
            for (const std::string& server : names) {
                if (client != server) {
                    all.push_back(tls::new_psk_key(tls::Direction{client, server}).value());
                }
            }
        }
        for (const std::string& name : names) {
            tls::PskKeys own = all;
            std::erase_if(own, [&](const tls::PskKey& key) {
                return !tls::direction_of(key.name)->has(name);
            });
            nodes[name] = std::make_unique<KeyedNode>(own, name);
        }
    }
    [[nodiscard]] const tls::Credentials& of(const std::string& name) const {
        return *nodes.at(name)->credentials;
    }
};

}  // namespace

TEST_CASE("with keys of each two nodes both sides know who the other one is") {
    const ThreeNodes three;
    for (const auto& [client, server] :
         {std::pair("alpha", "beta"), {"beta", "alpha"}, {"gamma", "alpha"}, {"beta", "gamma"}}) {
        auto ours = three.of(client).dial(server).value();
        auto theirs = three.of(server).accept().value();
        REQUIRE(shake_hands(ours, theirs).server.has_value());
        CHECK(theirs.proof().node == client);
        CHECK(ours.proof().node == server);
        CHECK(tls::direction_of(theirs.proof().key) == tls::Direction{client, server});
    }
}

TEST_CASE("a connection that is sent back to the node it came from is refused by that node") {
    const ThreeNodes three;
    auto ours = three.of("alpha").dial("beta").value();
    auto mirror = three.of("alpha").accept().value();
    const Outcome outcome = shake_hands(ours, mirror);
    CHECK_FALSE(outcome.client.has_value());
    CHECK_FALSE(outcome.server.has_value());
}

TEST_CASE("a third node can be neither of the two others, as client or as server") {
    const ThreeNodes three;
    {
        auto ours = three.of("alpha").dial("beta").value();
        auto gamma = three.of("gamma").accept().value();
        const Outcome outcome = shake_hands(ours, gamma);
        CHECK_FALSE(outcome.client.has_value());
        CHECK_FALSE(outcome.server.has_value());
    }
    // It gives the names of others to the keys that it has.
    for (const char* from : {"gamma+beta+", "beta+gamma+", "gamma+alpha+"}) {
        tls::PskKeys forged;
        for (tls::PskKey key : three.all) {
            if (key.name.starts_with(from)) {
                const auto real = std::find_if(
                    three.all.begin(), three.all.end(),
                    [](const tls::PskKey& each) { return each.name.starts_with("alpha+beta+"); });
                key.name = real->name;
                forged.push_back(std::move(key));
            }
        }
        const KeyedNode gamma(forged, "alpha");
        auto as_alpha = gamma.credentials->dial("beta").value();
        auto beta = three.of("beta").accept().value();
        CHECK_FALSE(shake_hands(as_alpha, beta).server.has_value());
        const KeyedNode other(forged, "beta");
        auto alpha = three.of("alpha").dial("beta").value();
        auto as_beta = other.credentials->accept().value();
        CHECK_FALSE(shake_hands(alpha, as_beta).client.has_value());
    }
}

TEST_CASE("a node without keys for another one says so before it connects") {
    const ThreeNodes three;
    three.nodes.at("alpha")->write(
        {*std::find_if(three.all.begin(), three.all.end(), [](const tls::PskKey& key) {
            return key.name.starts_with("alpha+beta+");
        })});
    CHECK(three.of("alpha").dial("beta").has_value());
    CHECK(three.of("alpha").dial("gamma").error().text().find("from alpha to gamma") !=
          std::string::npos);
    CHECK(three.of("alpha").accept().error().text().find("from another node to alpha") !=
          std::string::npos);
}

TEST_CASE("the cluster's key goes on beside keys of two nodes, until it is taken out") {
    const ThreeNodes three;
    tls::PskKeys keys{key_named("old", 1)};
    std::copy_if(three.all.begin(), three.all.end(), std::back_inserter(keys),
                 [](const tls::PskKey& key) { return tls::direction_of(key.name)->has("beta"); });
    const KeyedNode beta(keys, "beta");
    const KeyedNode not_yet({key_named("old", 1)}, "alpha");
    auto ours = not_yet.credentials->dial("beta").value();
    auto theirs = beta.credentials->accept().value();
    REQUIRE(shake_hands(ours, theirs).server.has_value());
    CHECK(theirs.proof().node.empty());
    auto again = three.of("alpha").dial("beta").value();
    auto still = beta.credentials->accept().value();
    REQUIRE(shake_hands(again, still).server.has_value());
    CHECK(still.proof().node == "alpha");
}

TEST_CASE("with tls off there are no credentials") {
    Config config;
    config.tls.mode = TlsMode::off;
    CHECK(tls::Credentials::of(config, "alpha") == nullptr);
}
