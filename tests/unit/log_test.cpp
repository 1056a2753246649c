// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/log.hpp"

#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <string>
#include <unistd.h>

#include <doctest/doctest.h>

#include "core/base/clock.hpp"
#include "core/base/fd.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;

namespace {

/// What `body` writes to stderr.
template <typename Body>
std::string stderr_of(Body body) {
    const test::TempDir dir;
    const Fd saved(::dup(STDERR_FILENO));
    const Fd file(::open(dir.file("stderr").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(file.is_open());
    ::dup2(file.get(), STDERR_FILENO);
    body();
    ::dup2(saved.get(), STDERR_FILENO);
    std::ostringstream text;
    text << std::ifstream(dir.file("stderr")).rdbuf();
    return text.str();
}

}  // namespace

TEST_CASE("a line has the time, the level and the text") {
    const std::string line = stderr_of([] { log(LogLevel::warning, "disk {} is slow", 7); });
    REQUIRE(line.size() > 25);
    CHECK(parse_rfc3339(line.substr(0, 24)).has_value());
    CHECK(line.substr(24) == " warning: disk 7 is slow\n");
}

TEST_CASE("a text cannot forge a second line") {
    const std::string line = stderr_of([] { log_line(LogLevel::info, "one\ntwo\x1b[2J"); });
    CHECK(line.substr(24) == " one two [2J\n");
}

TEST_CASE("debug lines appear only when asked for") {
    CHECK(stderr_of([] { log_line(LogLevel::debug, "detail"); }).empty());
    set_log_verbose(true);
    CHECK_FALSE(stderr_of([] { log_line(LogLevel::debug, "detail"); }).empty());
    set_log_verbose(false);
}
