// SPDX-License-Identifier: BSD-3-Clause
// The server and the link with TLS between them: who is let in, and who learns nothing.
#include <future>
#include <thread>

#include <libnbd.h>

#include "core/nbd/link.hpp"
#include "nbd_fixture.hpp"
#include "tls_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

struct TlsServer {
    KeyedNode node{{key_named("k1", 1)}};
    MemoryProvider provider;
    Mutex mutex;
    std::vector<Error> strangers GUARDED_BY(mutex);
    nbd::Server server{provider, {}, node.credentials};
    std::uint16_t port = 0;

    TlsServer() {
        server.on_stranger([this](const nbd::Client&, const Error& error) {
            MutexLock lock(mutex);
            strangers.push_back(error);
        });
        port = server.listen_tcp({"127.0.0.1", 0}).value();
    }
    [[nodiscard]] Result<std::unique_ptr<nbd::Link>> connect(
        const std::shared_ptr<const tls::Credentials>& credentials) const {
        return nbd::Link::connect(
            {.tcp = {"127.0.0.1", port}, .unix_path = {}, .tls = credentials, .node = "beta"},
            "disk", {.connect_timeout = 20s, .deadline = 60s, .peer_name = "beta"});
    }
    [[nodiscard]] std::size_t stranger_count() {
        MutexLock lock(mutex);
        return strangers.size();
    }
};

/// What a plain client says and hears.
std::string converse(std::uint16_t port, const std::string& words) {
    const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::send(socket.get(), words.data(), words.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(words.size()));
    ::shutdown(socket.get(), SHUT_WR);
    std::string heard;
    char part[4096];
    for (ssize_t got = 0; (got = ::recv(socket.get(), part, sizeof part, 0)) > 0;) {
        heard.append(part, static_cast<std::size_t>(got));
    }
    return heard;
}

std::string number(std::uint64_t value, int bytes) {
    std::string text;
    for (int at = bytes - 1; at >= 0; --at) {
        text += static_cast<char>(value >> (8 * at));
    }
    return text;
}

std::string option(nbd::Option which, const std::string& data = {}) {
    return number(nbd::option_magic, 8) + number(static_cast<std::uint32_t>(which), 4) +
           number(data.size(), 4) + data;
}

const std::string flags = number(3, 4);
const std::string disk_name = number(4, 4) + "disk" + number(0, 2);

}  // namespace

TEST_CASE("over TLS the link works as without: data, flush, large requests both ways") {
    TlsServer server;
    const auto link = server.connect(server.node.credentials);
    REQUIRE(link.has_value());
    REQUIRE((*link)->proof().has_value());
    CHECK((*link)->proof()->key == "k1");
    Bytes data(9 * MiB);
    for (std::size_t at = 0; at < data.size(); ++at) {
        data[at] = static_cast<std::byte>(at / 1000);
    }
    REQUIRE((*link)->write(data, 4096, true).has_value());
    REQUIRE((*link)->flush().has_value());
    Bytes back(data.size());
    REQUIRE((*link)->read(back, 4096).has_value());
    CHECK(back == data);
    const auto guests = server.server.guests();
    REQUIRE(guests.size() == 1);
    CHECK(guests.front().proof.key == "k1");
    CHECK(server.stranger_count() == 0);
}

TEST_CASE("many threads share a link over TLS") {
    TlsServer server;
    const auto link = server.connect(server.node.credentials);
    REQUIRE(link.has_value());
    std::atomic<int> wrong{0};
    std::vector<std::thread> users;
    for (std::size_t user = 0; user < 8; ++user) {
        users.emplace_back([&, user] {
            for (std::size_t round = 0; round < 200; ++round) {
                Bytes data(4096 + round * 64, static_cast<std::byte>(user * 31 + round));
                Bytes back(data.size());
                const std::uint64_t at = user * MiB;
                wrong += (*link)->write(data, at, false) && (*link)->read(back, at) && back == data
                             ? 0
                             : 1;
            }
        });
    }
    for (std::thread& user : users) {
        user.join();
    }
    CHECK(wrong == 0);
}

TEST_CASE("a client without TLS gets the refusal of the handshake and nothing else") {
    TlsServer server;
    for (const nbd::Option asked : {nbd::Option::go, nbd::Option::info, nbd::Option::list,
                                    nbd::Option::structured_reply, nbd::Option::set_meta_context}) {
        const std::string heard = converse(server.port, flags + option(asked, disk_name));
        CHECK(heard ==
              number(nbd::init_magic, 8) + number(nbd::option_magic, 8) + number(3, 2) +
                  number(nbd::option_reply_magic, 8) +
                  number(static_cast<std::uint32_t>(asked), 4) +
                  number(static_cast<std::uint32_t>(nbd::OptionReply::err_tls_required), 4) +
                  number(20, 4) + "TLS is required here");
    }
    // This option can't be refused in words.
    CHECK(converse(server.port, flags + option(nbd::Option::export_name, "disk")).size() == 18);
    CHECK(server.provider.disk.exports == 0);
}

TEST_CASE("words that are put behind STARTTLS are not taken for the client's") {
    TlsServer server;
    const std::string heard = converse(
        server.port, flags + option(nbd::Option::starttls) + option(nbd::Option::go, disk_name));
    // The greeting, the acknowledgement, and at most an alert.
    CHECK(heard.size() < 18 + 20 + 40);
    CHECK(eventually([&] { return server.stranger_count() == 1; }));
    CHECK(server.provider.disk.exports == 0);
}

TEST_CASE("a link with another key, or without one, is refused with the reason") {
    TlsServer server;
    const KeyedNode other({key_named("k1", 2)});
    const auto wrong = server.connect(other.credentials);
    REQUIRE_FALSE(wrong.has_value());
    CHECK(wrong.error().kind == ErrorKind::refused);
    CHECK(wrong.error().text().find("k1") != std::string::npos);
    const auto plain = server.connect(nullptr);
    REQUIRE_FALSE(plain.has_value());
    CHECK(plain.error().kind == ErrorKind::refused);
    CHECK(plain.error().message.find("TLS is required here") != std::string::npos);
    CHECK(server.stranger_count() == 1);
}

TEST_CASE("a server without a usable key refuses TLS in words") {
    TlsServer server;
    const KeyedNode other({key_named("k1", 1)});
    REQUIRE(std::remove(server.node.config.tls.psk_file.c_str()) == 0);
    const auto link = server.connect(other.credentials);
    REQUIRE_FALSE(link.has_value());
    CHECK(link.error().message.find("mirrorctl check") != std::string::npos);
    // The name of the file is for this node's administrator alone.
    CHECK(link.error().text().find(server.node.dir.path()) == std::string::npos);
    MutexLock lock(server.mutex);
    REQUIRE(server.strangers.size() == 1);
    CHECK(server.strangers.front().text().find("keygen") != std::string::npos);
}

TEST_CASE("a client that wants TLS does not go on without") {
    MemoryProvider provider;
    nbd::Server server(provider, {});
    const auto port = server.listen_tcp({"127.0.0.1", 0}).value();
    const KeyedNode node({key_named("k1", 1)});
    const auto link = nbd::Link::connect(
        {.tcp = {"127.0.0.1", port}, .unix_path = {}, .tls = node.credentials, .node = "beta"},
        "disk", {.peer_name = "beta"});
    REQUIRE_FALSE(link.has_value());
    CHECK(link.error().kind == ErrorKind::refused);
    CHECK(link.error().message.find("tls = \"off\"") != std::string::npos);
    CHECK(provider.disk.exports == 0);
}

TEST_CASE("whose key was taken away is cut off, and the others stay") {
    TlsServer server;
    server.node.write({key_named("k1", 1), key_named("k2", 2)});
    const KeyedNode second({key_named("k2", 2)});
    const auto first_link = server.connect(server.node.credentials);
    const auto second_link = server.connect(second.credentials);
    REQUIRE(first_link.has_value());
    REQUIRE(second_link.has_value());
    std::promise<void> lost;
    (*first_link)->on_lost([&](const Error&) { lost.set_value(); });
    server.server.end_connections_of([](const tls::Proof& proof) { return proof.key == "k1"; });
    CHECK(lost.get_future().wait_for(20s) == std::future_status::ready);
    CHECK((*second_link)->flush().has_value());
}

TEST_CASE("a stock client gets in with the key") {
    TlsServer server;
    const std::unique_ptr<nbd_handle, void (*)(nbd_handle*)> client(::nbd_create(), ::nbd_close);
    REQUIRE(::nbd_set_tls(client.get(), LIBNBD_TLS_REQUIRE) == 0);
    REQUIRE(::nbd_set_tls_psk_file(client.get(), server.node.config.tls.psk_file.c_str()) == 0);
    REQUIRE(::nbd_set_tls_username(client.get(), "k1") == 0);
    REQUIRE(::nbd_set_export_name(client.get(), "disk") == 0);
    REQUIRE(::nbd_connect_tcp(client.get(), "127.0.0.1", std::to_string(server.port).c_str()) == 0);
    CHECK(::nbd_get_tls_negotiated(client.get()) == 1);
    const Bytes data(100000, std::byte{9});
    CHECK(::nbd_pwrite(client.get(), data.data(), data.size(), 0, LIBNBD_CMD_FLAG_FUA) == 0);
    CHECK(server.provider.disk.byte_at(99999) == std::byte{9});
}
