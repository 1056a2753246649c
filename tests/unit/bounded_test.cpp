// SPDX-License-Identifier: BSD-3-Clause
#include "tools/support/bounded.hpp"

#include <fcntl.h>
#include <future>
#include <memory>
#include <poll.h>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "core/base/put_file.hpp"
#include "temp_dir.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

constexpr std::chrono::seconds long_enough{20};
constexpr std::chrono::milliseconds short_time{50};

}  // namespace

TEST_CASE("a look that hangs is left behind and named") {
    const auto release = std::make_shared<std::promise<void>>();
    const auto late = look_within(short_time, [release]() -> Result<std::string> {
        release->get_future().wait();
        return "too late";
    });
    REQUIRE_FALSE(late);
    CHECK(late.error().kind == ErrorKind::timed_out);
    CHECK(late.error().message == "it took longer than 50 ms");
    release->set_value();
    CHECK(look_within(long_enough, [] { return Result<std::string>("seen"); }) == "seen");
}

TEST_CASE("a program's output is what it prints, with how it ended where that was not well") {
    CHECK(output_of({"sh", "-c", "echo out; echo err >&2"}, long_enough, 100) == "out\nerr\n");
    CHECK(output_of({"sh", "-c", "echo no; exit 3"}, long_enough, 100) ==
          "no\n\n[exit status 3]\n");
    CHECK(output_of({"sh", "-c", "printf 123456789"}, long_enough, 4) ==
          "[the first 5 bytes are left out]\n6789");
    const auto missing = output_of({"no-such-program-here"}, long_enough, 100);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().message == "there is no program no-such-program-here");
}

TEST_CASE("a program that hangs is ended with all that it has started") {
    const test::TempDir dir;
    const std::string pipe = dir.file("pipe");
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    const Fd reading(::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    REQUIRE(reading.is_open());
    const auto late =
        output_of({"sh", "-c", "exec 3>" + pipe + "; sleep 600 & wait"}, short_time * 10, 100);
    REQUIRE_FALSE(late);
    CHECK(late.error().kind == ErrorKind::timed_out);
    // The last one that had it open for writing is gone.
    pollfd watched{reading.get(), POLLIN, 0};
    CHECK(::poll(&watched, 1, static_cast<int>(std::chrono::milliseconds(long_enough).count())) ==
          1);
    CHECK((watched.revents & POLLHUP) != 0);
}

TEST_CASE("of a file the end is taken") {
    const test::TempDir dir;
    const std::string path = dir.file("log");
    REQUIRE(put_file(path, "0123456789", 0600));
    CHECK(end_of_file(path, 100) == "0123456789");
    CHECK(end_of_file(path, 3) == "[the first 7 bytes are left out]\n789");
    CHECK_FALSE(end_of_file(dir.file("none"), 3));
    CHECK(end_of_file("/proc/self/comm", 100).value_or("").size() > 1);
}
