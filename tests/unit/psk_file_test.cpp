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
    const auto first = new_psk_key();
    const auto second = new_psk_key();
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

TEST_CASE("a key's name says which nodes it is for, and not when it was made") {
    const auto key = new_psk_key(Direction{"alpha", "beta.example-1"});
    REQUIRE(key.has_value());
    CHECK(key->name.starts_with("alpha+beta.example-1+"));
    CHECK(direction_of(key->name) == Direction{"alpha", "beta.example-1"});
    CHECK(parse_psk_keys(text_of({*key}), "x")->front().name == key->name);
    CHECK(new_psk_key()->name.starts_with("key-"));
    for (const char* name : {"alpha", "alpha+beta", "alpha+beta+", "+beta+1", "alpha++1",
                             "alpha+alpha+1", "alpha+beta+1+2", "al pha+beta+1"}) {
        CHECK_FALSE(direction_of(name));
    }
    CHECK(parse_error("alpha+beta:" + secret).message.find("CLIENT+SERVER+ID") !=
          std::string::npos);
    CHECK_FALSE(new_psk_key(Direction{std::string(63, 'a'), std::string(63, 'b')}).has_value());
    CHECK(new_psk_key(Direction{std::string(60, 'a'), std::string(59, 'b')}).has_value());
}

TEST_CASE("each direction has its own key and its successor, and no third") {
    const auto line = [](const std::string& name) { return name + ":" + secret + "\n"; };
    const std::string both = line("a+b+1") + line("b+a+1") + line("a+b+2") + line("b+a+2");
    CHECK(parse_psk_keys(both + line("old"), "x")->size() == 5);
    CHECK(parse_error(both + line("a+b+3")).message.find("more than 2 keys from a to b") !=
          std::string::npos);
    CHECK(parse_error(line("a+b+1") + line("b+a+1") + line("a+b+1")).message.find("two keys") !=
          std::string::npos);
}

TEST_CASE("the first key that fits is used, and those that fit are accepted") {
    const auto named = [](const std::string& name) { return PskKey{name, {}}; };
    const PskKeys keys{named("a+c+1"), named("b+a+1"), named("old"), named("a+b+1"),
                       named("a+b+2")};
    CHECK(key_towards(keys, {"a", "c"})->name == "a+c+1");
    CHECK(key_towards(keys, {"a", "b"})->name == "old");
    CHECK(key_towards({named("b+a+1"), named("a+b+2")}, {"a", "b"})->name == "a+b+2");
    CHECK(key_towards({named("b+a+1")}, {"a", "b"}) == nullptr);
    const auto accepted = [&](const std::string& server, const std::vector<std::string>& clients) {
        std::vector<std::string> names;
        for (const PskKey& key : keys_accepted(keys, server, clients)) {
            names.push_back(key.name);
        }
        return names;
    };
    CHECK(accepted("a", {"b", "c"}) == std::vector<std::string>{"b+a+1", "old"});
    CHECK(accepted("b", {"a", "c"}) == std::vector<std::string>{"old", "a+b+1", "a+b+2"});
    CHECK(accepted("c", {"b"}) == std::vector<std::string>{"old"});
}
