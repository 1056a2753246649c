// SPDX-License-Identifier: BSD-3-Clause
#include "core/events/journal.hpp"

#include <array>
#include <cstring>
#include <set>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>

#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;

namespace {

Fd listen_at(const std::string& path) {
    Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    return socket;
}

}  // namespace

TEST_CASE("a message id is what uuidgen --sha1 prints for the namespace and the event's id") {
    CHECK(message_id("mirror-break") == "9a8151b38a325a70b1db679a20596cd0");
    CHECK(message_id("in-sync") == "d6a180d807fc5930a63782635b8c0ee6");
    CHECK(std::set{message_id("promoted"), message_id("demoted"), message_id("diverged")}.size() ==
          3);
}

TEST_CASE("an entry is a line a field; a value with line ends has its length before it") {
    CHECK(journal_entry({{"MESSAGE", "a=b"}, {"VOLUME", ""}, {"PRIORITY", "3"}}) ==
          "MESSAGE=a=b\nPRIORITY=3\n");
    const std::string two_lines = journal_entry({{"MESSAGE", "x\ny"}});
    CHECK(two_lines == std::string("MESSAGE\n\3\0\0\0\0\0\0\0x\ny\n", 20));
}

TEST_CASE("an entry is one datagram, and a journal that is away or full holds nobody") {
    const test::TempDir dir;
    const std::string path = dir.file("socket");
    CHECK_FALSE(send_to_journal("MESSAGE=x\n", path));
    const Fd journal = listen_at(path);
    REQUIRE(send_to_journal("MESSAGE=x\nVOLUME=r0\n", path));
    std::array<char, 256> got{};
    const ssize_t size = ::recv(journal.get(), got.data(), got.size(), 0);
    REQUIRE(size > 0);
    CHECK(std::string(got.data(), static_cast<std::size_t>(size)) == "MESSAGE=x\nVOLUME=r0\n");
    // Nobody reads: it fails at some time, and never waits.
    bool was_refused = false;
    for (int i = 0; i < 100000 && !was_refused; ++i) {
        was_refused = !send_to_journal("MESSAGE=x\n", path);
    }
    CHECK(was_refused);
    CHECK_FALSE(send_to_journal("MESSAGE=x\n", std::string(200, 'x')));
}
