// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/psk_file.hpp"

#include <fstream>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "temp_dir.hpp"

using namespace mirror;
using namespace mirror::tls;

namespace {

const std::string secret = std::string(64, 'a');

void write_text(const std::string& path, const std::string& text, mode_t mode = 0600) {
    std::ofstream(path) << text;
    REQUIRE(::chmod(path.c_str(), mode) == 0);
}

Error parse_error(const std::string& text) {
    const auto keys = parse_psk_keys(text, "cluster.psk");
    REQUIRE_FALSE(keys.has_value());
    return keys.error();
}

}  // namespace

TEST_CASE("keys keep their order, and comments and empty lines are skipped") {
    const auto keys = parse_psk_keys(
        "# of alpha and beta\n\nnew:" + secret + "\nold:0011" + secret.substr(4) + "\n",
        "cluster.psk");
    REQUIRE(keys.has_value());
    REQUIRE(keys->size() == 2);
    CHECK(keys->front().name == "new");
    CHECK(keys->front().secret == std::vector<std::byte>(32, std::byte{0xaa}));
    CHECK(keys->back().secret.at(1) == std::byte{0x11});
    CHECK(parse_psk_keys(text_of(*keys), "x")->back().name == "old");
}

TEST_CASE("a file that is not one of keys is refused with the line, and never shows a secret") {
    CHECK(parse_error("").message == "cluster.psk has no key");
    CHECK(parse_error("a:" + secret + "\nnonsense\n").message ==
          "cluster.psk:2: not a line NAME:HEX");
    for (const std::string& bad : {std::string("abc"), std::string(30, 'a'), std::string(130, 'a'),
                                  std::string(63, 'a'), std::string(64, 'g')}) {
        const Error error = parse_error("k:" + bad + "\n");
        CHECK(error.message.find(bad) == std::string::npos);
        CHECK(error.message.find("'k'") != std::string::npos);
    }
    CHECK(parse_error("a/b:" + secret).kind == ErrorKind::invalid);
    CHECK(parse_error("a:" + secret + "\na:" + secret).message.find("two keys are named 'a'") !=
          std::string::npos);
    CHECK(parse_error("a:" + secret + "\nb:" + secret + "\nc:" + secret)
              .message.find("more than 2") != std::string::npos);
}

TEST_CASE("a file that others can read or write is refused, with what to do") {
    test::TempDir dir;
    const std::string path = dir.path() + "/cluster.psk";
    for (const mode_t mode : {0640U, 0604U, 0620U, 0602U, 0666U}) {
        write_text(path, "k:" + secret + "\n", mode);
        const auto keys = read_psk_file(path);
        REQUIRE_FALSE(keys.has_value());
        CHECK(keys.error().kind == ErrorKind::refused);
        CHECK(keys.error().remedy.find("chmod 600") != std::string::npos);
    }
    write_text(path, "k:" + secret + "\n");
    CHECK(read_psk_file(path).has_value());
}

TEST_CASE("a missing file says how one is made") {
    const auto keys = read_psk_file("/nonexistent/cluster.psk");
    REQUIRE_FALSE(keys.has_value());
    CHECK(keys.error().text().find("mirrorctl keygen") != std::string::npos);
}

TEST_CASE("what is no file of keys is not read at length") {
    test::TempDir dir;
    const std::string path = dir.path() + "/cluster.psk";
    write_text(path, std::string(100000, '#'));
    CHECK(read_psk_file(path).error().kind == ErrorKind::invalid);
    CHECK(read_psk_file(dir.path()).error().kind == ErrorKind::refused);
}

TEST_CASE("a new key is written for its owner alone, and read back") {
    test::TempDir dir;
    const std::string path = dir.path() + "/cluster.psk";
    const auto first = new_psk_key("20261127");
    const auto second = new_psk_key("20261127");
    REQUIRE(first.has_value());
    REQUIRE(second.has_value());
    CHECK(first->name != second->name);
    CHECK(first->secret != second->secret);
    CHECK(first->secret.size() == 32);
    ::umask(0);
    REQUIRE(write_psk_file(path, {*first}).has_value());
    REQUIRE(write_psk_file(path, {*second, *first}).has_value());
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    const auto keys = read_psk_file(path);
    REQUIRE(keys.has_value());
    CHECK(keys->front().name == second->name);
    CHECK(keys->back().secret == first->secret);
}
