// SPDX-License-Identifier: BSD-3-Clause
#include "core/meta/backing_record.hpp"

#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "core/store/file_store.hpp"
#include "core/store/identity.hpp"
#include "temp_dir.hpp"

using namespace mirror;
namespace fs = std::filesystem;

namespace {

Superblock left_at(const std::string& identity, std::uint64_t mark) {
    Superblock block;
    block.state = ReplicaState::up_to_date;
    block.backing_identity = identity;
    block.backing_mark = mark;
    block.steps = {.taken = 20, .offered = 0, .content = 20, .maps_from = 19};
    return block;
}

std::unique_ptr<FileStore> open_file(const std::string& path) {
    auto store = FileStore::open(path, FileStore::Lock::exclusive);
    REQUIRE_MESSAGE(store, store.error().text());
    return std::move(*store);
}

}  // namespace

TEST_CASE("a backing is judged by what it is, then by how it was left") {
    CHECK(judge_backing(left_at("", 0), "inode 1", 5) == BackingVerdict::first_seen);
    CHECK(judge_backing(left_at("inode 1", 5), "inode 1", 5) == BackingVerdict::as_left);
    CHECK(judge_backing(left_at("inode 1", 5), "inode 1", 6) == BackingVerdict::touched);
    CHECK(judge_backing(left_at("inode 1", 5), "inode 2", 5) == BackingVerdict::another);
    CHECK(judge_backing(left_at("wwid a", 0), "", 0) == BackingVerdict::another);
    // Not closed in good order, or a device: the mark says nothing.
    CHECK(judge_backing(left_at("inode 1", 0), "inode 1", 6) == BackingVerdict::as_left);
}

TEST_CASE("a doubtful backing is of the oldest step until all of it was compared") {
    Superblock block = left_at("inode 1", 5);
    adopt_backing(block, "inode 2", true);
    CHECK(block.doubtful);
    CHECK(block.steps == first_steps);
    CHECK(judge_backing(block, "inode 2", 9) == BackingVerdict::as_left);

    Superblock known = left_at("", 0);
    adopt_backing(known, "inode 2", false);
    CHECK_FALSE(known.doubtful);
    CHECK(known.steps.taken == 20);
}

TEST_CASE("a file keeps its identity, and its mark tells whatever is written to it") {
    const test::TempDir dir;
    const std::string path = dir.path() + "/backing";
    REQUIRE(create_backing_file(path, 1 * MiB));
    std::string identity;
    std::uint64_t sealed = 0;
    {
        const auto store = open_file(path);
        REQUIRE(store->write(std::vector<std::byte>(4096, std::byte{7}), 0));
        identity = *store->identity();
        sealed = *store->seal();
        CHECK(*store->change_mark() == sealed);
    }
    CHECK(identity.starts_with("inode "));
    {
        const auto store = open_file(path);
        CHECK(*store->identity() == identity);
        CHECK(*store->change_mark() == sealed);
    }
    // What a restore in place leaves: the same file, times set back to those of the copy.
    {
        const auto store = open_file(path);
        REQUIRE(store->write(std::vector<std::byte>(4096, std::byte{8}), 0));
        const timespec times[2] = {{1000, 0}, {1000, 0}};
        REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
    }
    CHECK(*open_file(path)->change_mark() != sealed);

    fs::rename(path, path + ".away");
    CHECK_FALSE(identity_at(path));
    fs::copy_file(path + ".away", path);
    CHECK(*identity_at(path) != identity);
    CHECK(*identity_at(path + ".away") == identity);
}

TEST_CASE("a block device has no mark, and what it is called is no number of the day") {
    for (const auto& entry : fs::directory_iterator("/dev")) {
        if (entry.is_block_file()) {
            const auto identity = identity_at(entry.path());
            REQUIRE(identity);
            CHECK(identity->size() <= longest_identity);
            CHECK_FALSE(identity->starts_with("inode "));
        }
    }
}
