// SPDX-License-Identifier: BSD-3-Clause
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/nearest_word.hpp"
#include "core/config/mistakes.hpp"

using namespace mirror;

namespace {

/// Lines 1 to 8; a row of the table is the rest, from line 9 on.
const std::string good = R"([node.alpha]
address = "10.0.0.1:10809"
[node.beta]
address = "10.0.0.2:10809"
[volume.r0]
size = "64MiB"
backing.alpha = "/srv/a.img"
backing.beta = "/srv/b.img"
)";

std::vector<std::string> told(const std::string& text) {
    const auto config = read_config(text, "m");
    std::vector<std::string> lines;
    if (!config) {
        for (const Mistake& mistake : config.error()) {
            lines.push_back(mistake.error.text());
        }
    }
    return lines;
}

struct Row {
    std::string added;
    std::vector<std::string> said;  ///< the beginning of each mistake
};

const std::vector<Row> rows{
    // What TOML's parser stops at, with the line as it should be.
    {"disk_timeout = 30s",
     {"m:9: volume.r0.disk_timeout: a value that is not a number must be in quotes; quote it: "
      "disk_timeout = \"30s\""}},
    {"verify_rate = 256MiB # a second",
     {"m:9: volume.r0.verify_rate: a value that is not a number must be in quotes; quote it: "
      "verify_rate = \"256MiB\""}},
    {"device = /dev/nbd0",
     {"m:9: volume.r0.device: a value that is not a number must be in quotes; "
      "quote it: device = \"/dev/nbd0\""}},
    {"mode = sync",
     {"m:9: volume.r0.mode: a value that is not a number must be in quotes; quote "
      "it: mode = \"sync\""}},
    {"[node.gamma]\naddress = 10.0.0.3:10809",
     {"m:10: node.gamma.address: a value that is not a number must be in quotes; quote it: address "
      "= \"10.0.0.3:10809\""}},
    {"device = \"/dev/nbd0",
     {"m:9: volume.r0.device: the closing quote is missing; write device = \"/dev/nbd0\""}},
    {"device =", {"m:9: volume.r0.device: the value is missing; write device = \"VALUE\", or "}},
    {"device: \"/dev/nbd0\"",
     {"m:9: volume.r0.device: a key and its value are joined by =; write device = \"/dev/nbd0\""}},
    {"device \"/dev/nbd0\"",
     {"m:9: volume.r0.device: a key and its value are joined by =; write device = \"/dev/nbd0\""}},
    {"device = \u201c/dev/nbd0\u201d",
     {"m:9: volume.r0.device: typographic quotes are letters to "
      "TOML; write device = \"/dev/nbd0\""}},
    {"size = \"1GiB\"", {"m:9: volume.r0.size: the key stands in this table twice; keep one of "}},
    {"[volume.r0]", {"m:9: volume.r0: the table stands in the file twice; put all of its keys "}},
    {"[node.gamma\naddress = \"c:1\"",
     {"m:9: node.gamma: the name of a table ends with ]; write "
      "[node.gamma]"}},
    {"size = = 64", {"m:9: volume.r0.size: "}},
    // Keys in the wrong place, and mistyped ones.
    {"control_group = \"adm\"",
     {"m:9: volume.r0.control_group: control_group stands below "
      "[volume.r0] at line 5; move it above all tables"}},
    {"[node]\ntls = \"psk\"", {"m:10: node.tls: tls stands below [node]"}},
    {"address = \"10.0.0.1:1\"",
     {"m:9: volume.r0.address: address is not a key of this table; move it below [node.NAME]"}},
    {"[node.gamma]\naddress = \"c:1\"\nmount = \"/srv\"",
     {"m:11: node.gamma.mount: mount is not a key of this table; move it below [volume.NAME]"}},
    {"peer_timout = \"5s\"",
     {"m:9: volume.r0.peer_timout: unknown key; did you mean peer_timeout?"}},
    {"backings.alpha = \"/x\"",
     {"m:9: volume.r0.backings: unknown key; did you mean backing.NODE?"}},
    {"xyzzy = 1", {"m:9: volume.r0.xyzzy: unknown key; known keys are size, mode,"}},
    {"[volumes.r1]", {"m:9: volumes: unknown key; did you mean volume.NAME?"}},
    {"[volume.r1.x]\nsize = 512",
     {"m:9: volume.r1.x: a name with a dot must be quoted; write "
      "[volume.\"r1.x\"]"}},
    // Values.
    {"device = \"/dev/sdb\"",
     {"m:9: volume.r0.device: '/dev/sdb' is not a device of the kernel's "
      "nbd driver; take \"/dev/nbd0\""}},
    {"mode = \"fast\"", {"m:9: volume.r0.mode: 'fast' is not known; take \"sync\""}},
    {"peer_timeout = \"5\"", {"m:9: volume.r0.peer_timeout: '5' has no unit"}},
    {"backing.gamma = \"/x\"", {"m:9: volume.r0.backing.gamma: there is no [node.gamma]; add it"}},
    {"[node.gamma]\naddress = \"0.0.0.0:1\"",
     {"m:10: node.gamma.address: '0.0.0.0:1' can't be "
      "used; give the address that peers connect to"}},
    {"[node.gamma]\naddress = \"10.0.0.1:10809\"", {"m:9: node.gamma: has the address"}},
    {"[volume.r1]\nbacking.alpha = \"/x\"",
     {"m:9: volume.r1: needs exactly two backing.NODE entries, has 1; write backing.NODE"}},
    // Several at once, in the order of the file, and nothing that only follows from another one.
    {"device = /dev/sdb\nmount = \"data\"\nhook_timeout = \"1h\"",
     {"m:9: volume.r0.device: a value that is not a number",
      "m:9: volume.r0.device: '/dev/sdb' is not a device",
      "m:10: volume.r0.mount: 'data' is not an "
      "absolute path",
      "m:11: volume.r0.hook_timeout: '1h' is out of range"}},
    {"mount = \"/srv/d\"\ndevice = 7", {"m:10: volume.r0.device: must be a string"}},
    {"[node.gamma]\naddress = \"c\"\n[volume.r1]\nbacking.alpha = \"/x\"\nbacking.gamma = \"/y\"",
     {"m:10: node.gamma.address: 'c' is not an address"}},
    {"active_at_boot = \"delta\"\nbacking.delta = \"/x\"",
     {"m:10: volume.r0.backing.delta: there is no [node.delta]"}},
    {"[volume.r1]\nsize = 1000\nsice = 1\nbacking.alpha = \"/srv/a.img\"\nbacking.beta = 1",
     {"m:10: volume.r1.size: 1000 bytes is not a size",
      "m:11: volume.r1.sice: unknown key; did you "
      "mean size?",
      "m:13: volume.r1.backing.beta: must be a string"}},
    {"[volume.r1]\nbacking.alpha = \"/srv/a.img\"\nbacking.beta = \"/srv/b.img\"",
     {"m:9: volume.r1: backing.alpha /srv/a.img is also volume.r0.backing.alpha",
      "m:9: volume.r1: backing.beta /srv/b.img is also volume.r0.backing.beta"}},
};

}  // namespace

TEST_CASE("every mistake of a file is told in one run, with what is accepted") {
    REQUIRE(told(good).empty());
    for (const Row& row : rows) {
        CAPTURE(row.added);
        const auto said = told(good + row.added + "\n");
        REQUIRE(said.size() == row.said.size());
        for (std::size_t at = 0; at < said.size(); ++at) {
            CAPTURE(said[at]);
            CHECK(said[at].starts_with(row.said[at]));
        }
    }
}

TEST_CASE("a file in which nearly everything is wrong is told as a whole") {
    const auto said = told(R"(tls = "on"
[node.alpha]
adress = "10.0.0.1:10809"
[node.beta]
address = 10.0.0.2
control_group = "adm"
[volume.r0]
size = 256MiB
mode = "async"
backing.alpha = "srv/a.img"
)");
    const std::vector<std::string> expected{
        "m:1: tls: 'on' is not known",
        "m:2: node.alpha: address is missing",
        "m:3: node.alpha.adress: unknown key; did you mean address?",
        "m:5: node.beta.address: a value that is not a number",
        "m:5: node.beta.address: '10.0.0.2' is not an address",
        "m:6: node.beta.control_group: control_group stands below [node.beta] at line 4",
        "m:8: volume.r0.size: a value that is not a number",
        "m:9: volume.r0.mode: asynchronous mode is not available",
        "m:10: volume.r0.backing.alpha: 'srv/a.img' is not an absolute path"};
    REQUIRE(said.size() == expected.size());
    for (std::size_t at = 0; at < said.size(); ++at) {
        CAPTURE(said[at]);
        CHECK(said[at].starts_with(expected[at]));
    }
}

TEST_CASE("whoever wants one error gets the first mistake, and the number of the others") {
    const auto one = parse_config(good + "sice = 1\n", "m");
    REQUIRE_FALSE(one);
    CHECK(one.error().text().find("more mistake") == std::string::npos);
    const auto two = parse_config(good + "sice = 1\nmode = 1\n", "m");
    REQUIRE_FALSE(two);
    CHECK(two.error().text().starts_with("m:9: volume.r0.sice: "));
    CHECK(two.error().text().ends_with("; 1 more mistake in the file: mirrorctl check lists both"));
    const auto three = parse_config(good + "sice = 1\nmode = 1\nmount = 1\n", "m");
    CHECK(
        three.error().text().ends_with("; 2 more mistakes in the file: mirrorctl check lists all"));
}

TEST_CASE("a mistake has its line and its key, for programs") {
    const auto config = read_config(good + "\n\nmode = 1\n", "m");
    REQUIRE_FALSE(config);
    CHECK(config.error().front().line == 11);
    CHECK(config.error().front().key == "volume.r0.mode");
    CHECK(read_config("", "m").error().front().line == 0);
}

TEST_CASE("the parser's own mistakes end after a bounded number of repairs") {
    std::string text = good;
    for (int line = 0; line < 500; ++line) {
        text += "hook_timeout = 1s\n";
    }
    CHECK(told(text).size() <= 52);
    CHECK(told("= = =\n[[[\n\"\n").size() == 1);
    CHECK(told("x").size() >= 1);
}

TEST_CASE("the word that was meant is one that is near") {
    const std::vector<std::string_view> known{"status", "switch", "resync"};
    CHECK(nearest_word("stauts", known) == "status");
    CHECK(nearest_word("swich", known) == "switch");
    CHECK(nearest_word("xyzzy", known).empty());
    CHECK(nearest_word(std::string(100000, 's'), known).empty());
    CHECK(nearest_word("", known).empty());
}
