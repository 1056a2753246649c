// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/foreign_text.hpp"

#include <string>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "daemon/mounter.hpp"
#include "tools/terminal.hpp"

using namespace mirror;

TEST_CASE("what is text stays as it is") {
    for (const char* text : {"", "plain", "\u00e4\u00f6\u00fc \u20ac", "\u65e5\u672c", "\U0001f4be",
                             "\u00a0", "\u2027\u202f\u2065\u206a"}) {
        CHECK(without_controls(text, '?') == text);
    }
}

TEST_CASE("controls of all sorts and marks of direction are taken out") {
    CHECK(without_controls("a\x1b[2Jb\nc\x7f", '?') == "a?[2Jb?c?");
    CHECK(without_controls("\u0080\u0085\u009b31m\u009f", '?') == "???31m?");
    CHECK(without_controls("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e", '?') == "????????");
    CHECK(without_controls("\u2066\u2067\u2068\u2069\u2028\u2029", '?') == "??????");
}

TEST_CASE("bytes that are no UTF-8 are taken out one by one, and what follows is looked at") {
    CHECK(without_controls("\x9b[2J", '?') == "?[2J");       // C1 for an 8-bit terminal
    CHECK(without_controls("\xc2", '?') == "?");             // cut off
    CHECK(without_controls("\xc2\x1b[2J", '?') == "??[2J");  // its tail is a control
    CHECK(without_controls("\xe2\x80\xc2\x9b"
                           "1m",
                           '?') == "???1m");
    CHECK(without_controls("\xc0\x9b\xc1\xbf", '?') == "????");  // overlong
    CHECK(without_controls("\xe0\x82\x9b", '?') == "???");       // overlong
    CHECK(without_controls("\xed\xa0\x80", '?') == "???");       // a surrogate
    CHECK(without_controls("\xf4\x90\x80\x80", '?') == "????");  // above the last
    CHECK(without_controls("\xf5\xff", '?') == "??");
    for (int first = 0; first < 256; ++first) {
        for (int second = 0; second < 256; ++second) {
            const std::string pair{static_cast<char>(first), static_cast<char>(second)};
            const std::string clean = without_controls(pair, '?');
            CHECK(clean.size() <= pair.size());
            CHECK(without_controls(clean, '?') == clean);
            CHECK(clean.find('\x1b') == std::string::npos);
        }
    }
}

TEST_CASE("a JSON text means the same without controls") {
    const nlohmann::json value{{"why", "a\u009b2J\u202ebc\x7f\u00e4"}};
    const std::string text = json_without_controls(value.dump(2) + "\n");
    CHECK(text == "{\n  \"why\": \"a\\u009b2J\\u202ebc\\u007f\u00e4\"\n}\n");
    CHECK(nlohmann::json::parse(text) == value);
}

TEST_CASE("neither a terminal nor the log gets them") {
    CHECK(tools::printable("x\u009b2J\u202ey\x9b") == "x?2J?y?");
    const std::string line = format_log_line(LogLevel::info, "x\u009b2J\u202ey\x9bz");
    CHECK(line.ends_with("x 2J y z\n"));
}

TEST_CASE("an unattended mount has neither setuid programs nor devices, unless asked for") {
    using daemon::mount_argument;
    CHECK(mount_argument("") == "_netdev,nosuid,nodev");
    CHECK(mount_argument("noatime,user") == "_netdev,noatime,user,nosuid,nodev");
    CHECK(mount_argument("suid") == "_netdev,suid,nodev");
    CHECK(mount_argument("dev,noatime") == "_netdev,dev,noatime,nosuid");
    CHECK(mount_argument("suid,dev") == "_netdev,suid,dev");
    CHECK(mount_argument("nosuid,nodev") == "_netdev,nosuid,nodev,nosuid,nodev");
}
