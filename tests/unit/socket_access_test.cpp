// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/socket_access.hpp"

#include <cstring>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using mirror::test::TempDir;

namespace {

/// As nbdkit makes it.
Fd make_socket(const std::string& path) {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.c_str(), path.size());
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::chmod(path.c_str(), 0755) == 0);
    return fd;
}

struct stat look_at(const std::string& path) {
    struct stat found {};
    REQUIRE(::stat(path.c_str(), &found) == 0);
    return found;
}

/// A group that this process may give a file to.
std::string a_group_of_ours() {
    const group* const own = ::getgrgid(::getegid());
    return own != nullptr ? own->gr_name : "";
}

}  // namespace

TEST_CASE("without a group a socket is its owner's") {
    const TempDir folder;
    const std::string path = folder.file("r0.sock");
    const Fd socket = make_socket(path);
    REQUIRE(open_socket_to(path, "").has_value());
    CHECK((look_at(path).st_mode & 07777) == 0600);
}

TEST_CASE("with a group its members may write, and nobody else may do anything") {
    const std::string group = a_group_of_ours();
    if (group.empty()) {
        MESSAGE("the group of this process has no name");
        return;
    }
    const TempDir folder;
    const std::string path = folder.file("r0.sock");
    const Fd socket = make_socket(path);
    REQUIRE(open_socket_to(path, group).has_value());
    CHECK((look_at(path).st_mode & 07777) == 0660);
    CHECK(look_at(path).st_gid == ::getegid());
}

TEST_CASE(
    "a group that is not there leaves the socket its owner's, and the error says what to do") {
    const TempDir folder;
    const std::string path = folder.file("r0.sock");
    const Fd socket = make_socket(path);
    const auto opened = open_socket_to(path, "mirrordisk-nobody-has-this");
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().text().find("groupadd") != std::string::npos);
    CHECK((look_at(path).st_mode & 07777) == 0600);
}

TEST_CASE("a socket that is not there is an error with its path") {
    const TempDir folder;
    const auto opened = open_socket_to(folder.file("none.sock"), "");
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().text().find("none.sock") != std::string::npos);
}
