// SPDX-License-Identifier: BSD-3-Clause
#include "core/store/blank.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "core/base/units.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;

namespace {

constexpr std::uint64_t size = 64 * MiB;

struct File {
    File() {
        std::ofstream(path).flush();
        std::filesystem::resize_file(path, size);
    }

    void put(std::uint64_t offset, const std::string& data) const {
        const Fd fd(::open(path.c_str(), O_WRONLY));
        REQUIRE(::pwrite(fd.get(), data.data(), data.size(), static_cast<off_t>(offset)) ==
                static_cast<ssize_t>(data.size()));
    }

    test::TempDir dir;
    std::string path = dir.file("backing");
};

}  // namespace

TEST_CASE("a hole, zeroes that were written, and a file that is not there look blank") {
    const File file;
    CHECK(looks_blank(file.path).value());
    file.put(0, std::string(8 * MiB, '\0'));
    file.put(40 * MiB + 12345, std::string(MiB, '\0'));
    CHECK(looks_blank(file.path).value());
    CHECK(looks_blank(file.dir.file("none")).value());
    std::ofstream(file.dir.file("empty")).flush();
    CHECK(looks_blank(file.dir.file("empty")).value());
    CHECK_FALSE(looks_blank(file.dir.path()).has_value());
}

TEST_CASE("one byte is seen at the begin, at the end, and where a file takes space") {
    for (const std::uint64_t offset : {std::uint64_t{0}, 3 * MiB + 1, size - 1, 20 * MiB}) {
        CAPTURE(offset);
        const File file;
        file.put(offset, "x");
        CHECK_FALSE(looks_blank(file.path).value());
    }
}
