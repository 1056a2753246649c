// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/state_space.hpp"

#include <doctest/doctest.h>

#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

NodeConfig alpha() {
    NodeConfig node;
    node.name = "alpha";
    node.state_dir = "/var/lib/mirrordisk";
    return node;
}

/// Of a filesystem of 100 GiB with room in it.
StateSpace ample() {
    return {.total_bytes = 100 * GiB, .free_bytes = 50 * GiB, .total_files = 0, .free_files = 0};
}

bool warns_of(const StateSpace& space, const std::string& what) {
    const std::string text = state_space_warning(alpha(), space);
    return text.find(what) != std::string::npos &&
           text.find("/var/lib/mirrordisk") != std::string::npos;
}

}  // namespace

TEST_CASE("with room in STATE_DIR there is nothing to say") {
    CHECK(state_space_warning(alpha(), ample()).empty());
    StateSpace small = ample();
    small.total_bytes = 50 * MiB;
    small.free_bytes = 5 * MiB;
    CHECK(state_space_warning(alpha(), small).empty());
}

TEST_CASE("what is short in STATE_DIR is named, with what helps") {
    StateSpace space = ample();
    space.free_bytes = 64 * MiB - 1;
    CHECK(warns_of(space, "free space there"));
    space = ample();
    space.total_bytes = 50 * MiB;
    space.free_bytes = 5 * MiB - 1;
    CHECK(warns_of(space, "free space there"));
    space = ample();
    space.total_files = 1000;
    space.free_files = 3;
    CHECK(warns_of(space, "3 more files"));
    space = ample();
    space.read_only = true;
    CHECK(warns_of(space, "read-only"));
}

TEST_CASE("a STATE_DIR that can't be looked at is said to be so") {
    const test::TempDir dir;
    CHECK(state_space(dir.path()));
    const auto lost = state_space(dir.file("gone"));
    REQUIRE_FALSE(lost);
    CHECK(state_space_warning(alpha(), lost).find("No such file") != std::string::npos);
}
