// SPDX-License-Identifier: BSD-3-Clause
// Two ends of TLS without a network, and the files that they need.
#pragma once

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/tls/credentials.hpp"
#include "core/tls/psk_file.hpp"
#include "temp_dir.hpp"
#include "tls_carry.hpp"

namespace mirror::test {

/// A node's credentials with keys of its own file.
struct KeyedNode {
    TempDir dir;
    Config config;
    std::shared_ptr<const tls::Credentials> credentials;

    explicit KeyedNode(const tls::PskKeys& keys, const std::string& name = "beta") {
        config.tls.psk_file = dir.path() + "/cluster.psk";
        for (const char* node : {"alpha", "beta", "gamma"}) {
            config.nodes[node].name = node;
        }
        write(keys);
        credentials = tls::Credentials::of(config, name);
    }
    void write(const tls::PskKeys& keys) const {
        REQUIRE(tls::write_psk_file(config.tls.psk_file, keys).has_value());
    }
};

inline tls::PskKey key_named(const std::string& name, unsigned char fill) {
    return {name, std::vector<std::byte>(32, std::byte{fill})};
}

struct Outcome {
    Result<void> client;
    Result<void> server;
};

/// Until both are done or one has failed.
inline Outcome shake_hands(tls::Session& client, tls::Session& server) {
    using Progress = tls::Session::Progress;
    Outcome outcome;
    bool client_done = false;
    bool server_done = false;
    for (int turn = 0; turn < 20 && !(client_done && server_done); ++turn) {
        if (!client_done) {
            const auto step = client.handshake();
            client_done = !step || *step == Progress::done;
            outcome.client = step ? Result<void>() : Failure(step.error());
        }
        carry(client, server);
        if (!server_done) {
            const auto step = server.handshake();
            server_done = !step || *step == Progress::done;
            outcome.server = step ? Result<void>() : Failure(step.error());
        }
        carry(server, client);
    }
    REQUIRE(client_done);
    REQUIRE(server_done);
    return outcome;
}

}  // namespace mirror::test
