// SPDX-License-Identifier: BSD-3-Clause
// The end of a process whose clients must not wait for it.
#include "core/engine/hang_up.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "temp_dir.hpp"

using namespace mirror;

namespace {

sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
}

Fd listen_on(const std::string& path) {
    Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
    REQUIRE(::listen(listener.get(), 8) == 0);
    return listener;
}

/// Not open when it was turned away.
Fd connect_to(const std::string& path) {
    Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    const int done =
        ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    return done == 0 ? std::move(client) : Fd();
}

constexpr pid_t nobody = 0;

bool has_ended(const Fd& client) {
    pollfd poll{client.get(), POLLIN, 0};
    char byte = 0;
    return ::poll(&poll, 1, 0) == 1 && ::recv(client.get(), &byte, 1, MSG_DONTWAIT) == 0;
}

}  // namespace

TEST_CASE("every client is hung up on, also who was not accepted yet, and nobody else") {
    const test::TempDir dir;
    const Fd listener = listen_on(dir.file("volume"));
    const Fd other_listener = listen_on(dir.file("other"));
    const Fd client = connect_to(dir.file("volume"));
    const Fd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const std::array waiting{connect_to(dir.file("volume")), connect_to(dir.file("volume"))};
    const Fd other = connect_to(dir.file("other"));
    REQUIRE(accepted.is_open());

    hang_up_clients(dir.file("volume"), nobody);
    CHECK(has_ended(client));
    CHECK(has_ended(waiting[0]));
    CHECK(has_ended(waiting[1]));
    CHECK_FALSE(has_ended(other));
    CHECK_FALSE(connect_to(dir.file("volume")).is_open());
    CHECK(connect_to(dir.file("other")).is_open());
}

TEST_CASE("who asks for it keeps its connection, for the answer") {
    const test::TempDir dir;
    const Fd listener = listen_on(dir.file("volume"));
    const Fd client = connect_to(dir.file("volume"));
    const Fd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    hang_up_clients(dir.file("volume"), ::getpid());
    CHECK_FALSE(has_ended(client));
    hang_up_clients(dir.file("volume"), nobody);
    CHECK(has_ended(client));
}
