// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/rto.hpp"

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

struct Figures {
    Figures() {
        node.state_dir = dir.path();
        std::filesystem::create_directory(dir.file("r0"));
    }
    void put(const std::string& text) const { std::ofstream(dir.file("r0/rto.json")) << text; }

    test::TempDir dir;
    NodeConfig node;
};

}  // namespace

TEST_CASE("the figures of a promotion come back as they were written") {
    const Figures figures;
    CHECK(read_rto(figures.node, "r0").is_null());
    Stopwatch watch(system_clock());
    watch.end_phase("engine");
    write_rto(figures.node, "r0", watch);
    const Json read = read_rto(figures.node, "r0");
    CHECK(read.at("seconds").is_number());
    CHECK(read.at("phases").contains("engine"));
}

TEST_CASE("a file that is no figures is none, however it was damaged") {
    const Figures figures;
    constexpr std::size_t many = 1'000'000;
    constexpr std::size_t deep = 5000;
    for (const std::string& damaged :
         {std::string(), std::string("[1]"), std::string("{\"seconds\":"), std::string(many, ' '),
          "{\"a\":" + std::string(many, '[') + std::string(many, ']') + "}",
          "{\"a\":" + std::string(deep, '[') + std::string(deep, ']') + "}"}) {
        figures.put(damaged);
        CHECK(read_rto(figures.node, "r0").is_null());
    }
}
