// SPDX-License-Identifier: BSD-3-Clause
// Peers that go without FIN or RST, made by the kernel's own means: a socket filter that drops
// whatever arrives is a machine without power, and a deferred accept is a handshake that only one
// side believes in.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <future>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/socket.h>
#include <thread>

#include <doctest/doctest.h>
#include <libnbd.h>

#include "core/nbd/tcp_options.hpp"
#include "daemon/silence.hpp"
#include "tests/unit/nbd_fixture.hpp"
#include "tests/unit/nbd_peer.hpp"

using namespace mirror;
using namespace mirror::nbd;
using namespace mirror::test;

namespace {

/// From now on nothing reaches this socket, and so its kernel acknowledges nothing.
void take_power_from(int socket) {
    sock_filter drop{.code = BPF_RET | BPF_K, .jt = 0, .jf = 0, .k = 0};
    const sock_fprog program{.len = 1, .filter = &drop};
    REQUIRE(::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
}

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

int bind_to(int socket, std::uint16_t port) {
    const sockaddr_in address = loopback(port);
    return ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

int connect_to(int socket, std::uint16_t port) {
    const sockaddr_in address = loopback(port);
    return ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

Fd tcp_socket() {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(fd.is_open());
    return fd;
}

/// Nobody else has it at the moment.
std::uint16_t free_port() {
    const Fd fd = tcp_socket();
    REQUIRE(bind_to(fd.get(), 0) == 0);
    sockaddr_in address{};
    socklen_t length = sizeof address;
    REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
    return ntohs(address.sin_port);
}

/// A client on this machine believes in its connection to the port.
bool somebody_is_connected_to(std::uint16_t port) {
    char wanted[32];
    std::snprintf(wanted, sizeof wanted, " 0100007F:%04X 01 ", port);
    std::ifstream table("/proc/net/tcp");
    for (std::string line; std::getline(table, line);) {
        if (line.find(wanted) != std::string::npos) {
            return true;
        }
    }
    return false;
}

}  // namespace

TEST_CASE("a connection that the peer's kernel knows nothing of is given up in seconds") {
    Fd listener = tcp_socket();
    const int seconds = 60;
    // The last packet of the handshake is dropped without an answer, as it happens when a listening
    // socket is closed at that moment.
    REQUIRE(::setsockopt(listener.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds) ==
            0);
    const std::uint16_t port = free_port();
    REQUIRE(bind_to(listener.get(), port) == 0);
    REQUIRE(::listen(listener.get(), 8) == 0);
    bool was_connected = false;
    std::thread closer([&] {
        was_connected = eventually([port] { return somebody_is_connected_to(port); });
        listener.reset();
    });
    const auto link = Link::connect({.tcp = {"127.0.0.1", port}, .unix_path = {}}, "r0",
                                    {.connect_timeout = 9s, .peer_name = "beta"});
    closer.join();
    CHECK(was_connected);
    REQUIRE_FALSE(link);
    INFO(link.error().text());
    CHECK(link.error().kind == ErrorKind::unreachable);
}

TEST_CASE("a request that may take hours ends when the peer's machine is gone") {
    std::promise<void> over;
    RawServer server([done = over.get_future().share()](Fd& connection) {
        grant_export(connection.get(), 1 * MiB);
        constexpr std::size_t request = Request::wire_size + 512;
        REQUIRE(receive_bytes(connection.get(), request).size() == request);
        take_power_from(connection.get());
        done.wait();
    });
    auto link =
        Link::connect(server.address(), "control",
                      {.deadline = 12h, .silence = 3s, .heartbeat = false, .peer_name = "beta"});
    REQUIRE_MESSAGE(link, link.error().text());
    const Bytes bytes(512);
    std::promise<Result<void>> answered;
    (*link)->write(bytes, 0, false,
                   [&](Result<void> result) { answered.set_value(std::move(result)); });
    auto answer = answered.get_future();
    const bool ended = answer.wait_for(60s) == std::future_status::ready;
    CHECK(ended);
    if (ended) {
        const Result<void> result = answer.get();
        REQUIRE_FALSE(result);
        CHECK(result.error().kind == ErrorKind::timed_out);
        CHECK(result.error().message == "beta: the machine gave no sign of life for 3.0 s");
    }
    link->reset();
    over.set_value();
}

TEST_CASE("the server ends the connection of a client whose machine is gone") {
    Fixture fixture({.stall_timeout = 3s});
    const auto port = fixture.server.listen_tcp({"127.0.0.1", 0});
    REQUIRE_MESSAGE(port, port.error().text());
    nbd_handle* const client = nbd_create();
    REQUIRE(nbd_set_export_name(client, "disk") == 0);
    REQUIRE(nbd_connect_tcp(client, "127.0.0.1", std::to_string(*port).c_str()) == 0);
    REQUIRE(fixture.disk.exports == 1);
    take_power_from(nbd_aio_get_fd(client));
    CHECK(eventually([&] { return fixture.disk.exports == 0; }, 60s));
    nbd_close(client);
}

TEST_CASE("a server that is being stopped turns newcomers away, and keeps its port to the end") {
    std::promise<void> over;
    Fixture fixture;
    std::atomic<bool> writing{false};
    fixture.disk.before_write = [&writing, done = over.get_future().share()] {
        writing = true;
        done.wait();
    };
    std::uint16_t port = 0;
    REQUIRE(eventually([&] {
        port = free_port();
        return fixture.server.listen_tcp({"127.0.0.1", port}).has_value();
    }));
    RawClient client(fixture.socket);
    client.open();
    REQUIRE(client.send(Message().request(Command::write, 0, 1, 0, 512).fill(512, 1)));
    REQUIRE(eventually([&] { return writing.load(); }));

    std::thread stopper([&] { fixture.server.stop(); });
    // The Unix socket goes first. Nobody connects to the port before that: what is left of a
    // connection would hold it, too.
    REQUIRE(eventually([&] { return !std::filesystem::exists(fixture.socket); }));
    const auto may_be_taken = [port] { return bind_to(tcp_socket().get(), port) == 0; };
    CHECK_FALSE(eventually(may_be_taken, 200ms));
    CHECK(eventually([port] {
        const Fd newcomer = tcp_socket();
        return connect_to(newcomer.get(), port) != 0 && errno == ECONNREFUSED;
    }));
    over.set_value();
    stopper.join();
    CHECK(eventually(may_be_taken));
}

TEST_CASE("a link does not end by the kernel's silence before peer_timeout") {
    CHECK(silence_for(100ms) == least_silence);
    CHECK(silence_for(5min) == 5min);
    Config config;
    CHECK(daemon::silence_of(config) == least_silence);
    config.volumes["r0"].peer_timeout = 2s;
    CHECK(daemon::silence_of(config) == least_silence);
    config.volumes["r1"].peer_timeout = 90s;
    CHECK(daemon::silence_of(config) == 90s);
}
