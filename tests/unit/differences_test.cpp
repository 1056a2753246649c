// SPDX-License-Identifier: BSD-3-Clause
// The three maps together: what is durable when, and what survives a loss of power.
#include "core/engine/differences.hpp"

#include <atomic>
#include <memory>

#include <doctest/doctest.h>

#include "faulty_machine.hpp"
#include "superblocks.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

constexpr std::uint64_t size = 64 * MiB + 4096;
constexpr std::uint64_t blocks_per_region = region_size / block_size;

const auto still_in_session = [] { return false; };
const auto nothing_to_flush = []() -> Result<void> { return {}; };

/// Some early writes are lost, or all from some late one on, or every third is as it likes.
constexpr unsigned losses = 40;
Kept kept_by(unsigned loss) {
    if (loss < 16) {
        return [loss](std::size_t i) { return i >= loss; };
    }
    if (loss < 32) {
        return [loss](std::size_t i) { return i < loss - 16; };
    }
    return [loss](std::size_t i) { return (loss >> (i % 3) & 1U) != 0; };
}

/// A metadata file, and what an engine loads of it.
struct Node {
    explicit Node(std::uint64_t volume_size = size) : machine(0, meta_file_size(volume_size)) {
        REQUIRE(MetaFile::format(machine.meta.open(), full_superblock(volume_size)));
        load();
    }
    Result<void> try_load() {
        differences.reset();
        meta.reset();
        auto file = MetaFile::load(machine.open_meta(), "meta");
        if (!file) {
            return Failure(file.error());
        }
        meta = std::move(*file);
        auto loaded = Differences::load(*meta);
        if (!loaded) {
            return Failure(loaded.error());
        }
        differences = std::move(*loaded);
        return {};
    }
    void load() { REQUIRE(try_load()); }
    void cut_power(const Kept& kept) {
        machine.meta.cut_power(kept);
        machine.power = std::make_shared<Power>();
    }
    Bitmap map(MapKind kind) {
        auto file = MetaFile::load(machine.meta.open(), "meta");
        REQUIRE(file);
        auto bits = (*file)->read_map(kind);
        REQUIRE(bits);
        return std::move(*bits);
    }

    Machine machine;
    std::unique_ptr<MetaFile> meta;
    std::unique_ptr<Differences> differences;
};

}  // namespace

TEST_CASE("an intent is durable when enter() returns") {
    Node node;
    { REQUIRE(node.differences->enter({5 * MiB - 1, 2})); }
    node.cut_power([](std::size_t) { return false; });
    CHECK(node.map(MapKind::intent).test(4));
    CHECK(node.map(MapKind::intent).test(5));
    CHECK(node.map(MapKind::intent).count() == 2);
}

TEST_CASE("intents of a former run are suspect, durably") {
    Node node;
    { REQUIRE(node.differences->enter({7 * MiB, 1})); }
    node.load();
    CHECK(node.differences->work_in(7).suspect);
    CHECK(node.differences->suspect_bytes() == region_size);
    CHECK(node.differences->intent_bytes() == 0);
    node.cut_power([](std::size_t) { return false; });
    CHECK(node.map(MapKind::suspect).test(7));
}

TEST_CASE("no loss of power while the maps are loaded loses a region") {
    for (std::uint64_t at = 1; at < 10; ++at) {
        for (unsigned loss = 0; loss < losses; ++loss) {
            Node node;
            { REQUIRE(node.differences->enter({7 * MiB, 1})); }
            node.machine.power->cut_at(node.machine.power->changes() + at);
            (void)node.try_load();
            node.cut_power(kept_by(loss));
            node.load();
            // A page of the map that was torn when it was first written counts as all ones.
            CHECK(node.differences->work_in(7).suspect);
        }
    }
}

TEST_CASE("a change is remembered by its intent until a checkpoint has written it") {
    Node node;
    {
        const auto entered = node.differences->enter({3 * MiB, 4096});
        REQUIRE(entered);
        node.differences->mark_changed({3 * MiB, 4096});
        CHECK(node.map(MapKind::changed).empty());
    }
    REQUIRE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    CHECK(node.map(MapKind::intent).empty());
    CHECK(node.map(MapKind::changed).count() == 1);
    CHECK(node.map(MapKind::changed).test(3 * blocks_per_region));
    node.load();
    CHECK(node.differences->changed_bytes() == block_size);
    CHECK(node.differences->suspect_bytes() == 0);
}

TEST_CASE("no loss of power during a checkpoint forgets a change") {
    for (std::uint64_t at = 1; at < 8; ++at) {
        for (unsigned loss = 0; loss < losses; ++loss) {
            Node node;
            {
                REQUIRE(node.differences->enter({3 * MiB, 4096}));
                node.differences->mark_changed({3 * MiB, 4096});
            }
            node.machine.power->cut_at(node.machine.power->changes() + at);
            (void)node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush);
            node.cut_power(kept_by(loss));
            node.load();
            const auto work = node.differences->work_in(3);
            CHECK((work.suspect || work.changed.size() == 1));
        }
    }
}

TEST_CASE("a checkpoint whose flush fails clears nothing") {
    Node node;
    { REQUIRE(node.differences->enter({0, 1})); }
    CHECK_FALSE(node.differences->checkpoint(IntentMap::Clear::all, []() -> Result<void> {
        return fail(ErrorKind::io, "the peer cannot flush");
    }));
    CHECK(node.map(MapKind::intent).test(0));
    CHECK_FALSE(node.differences->settled());
    REQUIRE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    CHECK(node.map(MapKind::intent).empty());
    CHECK(node.differences->settled());
}

TEST_CASE("maps that could not be written are written by the next checkpoint") {
    Node node;
    {
        REQUIRE(node.differences->enter({0, 1}));
        node.differences->mark_changed({0, 1});
    }
    const Error broken{ErrorKind::io, "broken"};
    SUBCASE("the write failed") {
        node.machine.meta_faults.fail_writes(broken);
    }
    SUBCASE("the flush failed") {
        node.machine.meta_faults.fail_flushes(broken);
    }
    CHECK_FALSE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    CHECK(node.map(MapKind::intent).test(0));
    node.machine.meta_faults.fail_writes({});
    node.machine.meta_faults.fail_flushes({});
    REQUIRE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    CHECK(node.map(MapKind::changed).test(0));
    CHECK(node.map(MapKind::intent).empty());
}

TEST_CASE("maps that are written in many parts are written whole, or again") {
    constexpr std::uint64_t large = 200 * GiB;
    Node node(large);
    node.differences->mark_changed({0, large});
    std::atomic<unsigned> writes{0};
    const Error broken{ErrorKind::io, "broken"};
    node.machine.meta_faults.before_write([&] {
        if (++writes == 10) {
            node.machine.meta_faults.fail_writes(broken);
        }
    });
    CHECK_FALSE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    CHECK(writes == 10);
    CHECK_FALSE(node.differences->settled());
    node.machine.meta_faults.before_write({});
    node.machine.meta_faults.fail_writes({});
    node.cut_power([](std::size_t) { return false; });
    CHECK(node.map(MapKind::changed).empty());
    REQUIRE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    node.cut_power([](std::size_t) { return false; });
    CHECK(node.map(MapKind::changed).count() == large / block_size);
}

TEST_CASE("a map is copied part by part as it is written, not all of it before") {
    constexpr std::uint64_t large = 200 * GiB;
    Node node(large);
    node.differences->mark_changed({0, large - MiB});
    std::atomic<bool> marked{false};
    node.machine.meta_faults.before_write([&] {
        if (!marked.exchange(true)) {
            node.differences->mark_changed({large - MiB, MiB});
        }
    });
    REQUIRE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    CHECK(node.map(MapKind::changed).count() == large / block_size);
}

TEST_CASE("what a peer says that it may differ in is durable before anybody goes on") {
    Node node;
    Bitmap regions(map_bits(MapKind::suspect, size));
    regions.set({5, 7});
    SUBCASE("some regions") {
        REQUIRE(node.differences->suspect(regions));
        node.cut_power([](std::size_t) { return false; });
        CHECK(node.map(MapKind::suspect).count() == 2);
        CHECK(node.map(MapKind::suspect).all({5, 7}));
    }
    SUBCASE("all") {
        REQUIRE(node.differences->suspect_all());
        node.cut_power([](std::size_t) { return false; });
        CHECK(node.map(MapKind::suspect).count() == regions.size());
    }
    SUBCASE("or it is an error") {
        node.machine.meta_faults.fail_flushes(Error{ErrorKind::io, "broken"});
        CHECK_FALSE(node.differences->suspect(regions));
        CHECK_FALSE(node.differences->suspect_all());
    }
}

TEST_CASE("blocks that a comparison found are on the disk after the next checkpoint") {
    Node node;
    Bitmap regions(map_bits(MapKind::suspect, size));
    regions.set({1, 2});
    REQUIRE(node.differences->suspect(regions));
    {
        REQUIRE(node.differences->enter({MiB, MiB}));
        node.differences->found(node.differences->work_in(1),
                                {{blocks_per_region + 3, blocks_per_region + 5}}, still_in_session);
    }
    CHECK_FALSE(node.differences->empty());
    REQUIRE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    node.cut_power([](std::size_t) { return false; });
    CHECK(node.map(MapKind::suspect).empty());
    CHECK(node.map(MapKind::changed).count() == 2);
    CHECK(node.map(MapKind::changed).all({blocks_per_region + 3, blocks_per_region + 5}));
}

TEST_CASE("the end of a session makes every region with an intent suspect") {
    Node node;
    { REQUIRE(node.differences->enter({9 * MiB, 1})); }
    CHECK(node.differences->empty());
    node.differences->suspect_intents();
    CHECK_FALSE(node.differences->empty());
    CHECK(node.differences->next_region(0) == 9);
    CHECK(node.differences->work_in(9).suspect);
}

TEST_CASE("only what is covered whole is no longer different") {
    Node node;
    auto& differences = *node.differences;
    differences.mark_changed({0, 3 * block_size});
    differences.clear_covered({1, 2 * block_size}, still_in_session);
    CHECK(differences.changed_bytes() == 2 * block_size);
    differences.clear_covered({0, 3 * block_size}, still_in_session);
    CHECK(differences.empty());

    Bitmap regions(map_bits(MapKind::suspect, size));
    regions.set({1, 3});
    REQUIRE(differences.suspect(regions));
    differences.clear_covered({MiB + 1, 2 * MiB}, still_in_session);
    CHECK(differences.suspect_bytes() == region_size);
    CHECK(differences.next_region(0) == 1);
}

TEST_CASE("the shorter last block and region count as covered at the end of the volume") {
    Node node;
    auto& differences = *node.differences;
    Bitmap regions(map_bits(MapKind::suspect, size));
    regions.set({64, 65});
    REQUIRE(differences.suspect(regions));
    CHECK(differences.work_in(64).range == ByteRange{64 * MiB, 4096});
    differences.clear_covered({64 * MiB, 4096}, still_in_session);
    CHECK(differences.empty());
}

TEST_CASE("an acknowledgement that arrives after the session's end clears nothing") {
    Node node;
    auto& differences = *node.differences;
    { REQUIRE(differences.enter({0, region_size})); }
    differences.suspect_intents();
    differences.mark_changed({0, region_size});
    differences.clear_covered({0, region_size}, [] { return true; });
    CHECK(differences.work_in(0).suspect);
    CHECK(differences.changed_bytes() == region_size);
}

TEST_CASE("digests that arrive after the session's end clear nothing and mark nothing") {
    Node node;
    Bitmap regions(size / region_size + 1);
    regions.set({1, 2});
    REQUIRE(node.differences->suspect(regions));
    const Differences::Work work = node.differences->work_in(1);
    const std::vector<BitRange> differing{{blocks_per_region, blocks_per_region + 2}};
    node.differences->found(work, differing, [] { return true; });
    CHECK(node.differences->suspect_bytes() == region_size);
    CHECK(node.differences->changed_bytes() == 0);
    node.differences->found(work, differing, still_in_session);
    CHECK(node.differences->suspect_bytes() == 0);
    CHECK(node.differences->changed_bytes() == 2 * block_size);
}

TEST_CASE("the work in a region is cut at its borders") {
    Node node;
    auto& differences = *node.differences;
    differences.mark_changed({2 * MiB - block_size, 2 * block_size + region_size});
    CHECK(differences.next_region(0) == 1);
    CHECK(differences.work_in(1).changed ==
          std::vector<BitRange>{{2 * blocks_per_region - 1, 2 * blocks_per_region}});
    CHECK(differences.work_in(2).changed ==
          std::vector<BitRange>{{2 * blocks_per_region, 3 * blocks_per_region}});
    CHECK(differences.work_in(3).changed ==
          std::vector<BitRange>{{3 * blocks_per_region, 3 * blocks_per_region + 1}});
    CHECK(differences.next_region(4) == std::nullopt);
    CHECK(differences.overlaps({2 * MiB - 1, 1}));
    CHECK_FALSE(differences.overlaps({0, MiB}));
}

TEST_CASE("a region that differs in any part of it is named, long after its intent is gone") {
    struct Change {
        ByteRange range;
        BitRange regions;
    };
    const Change changes[] = {{{3 * MiB + 8192, 4096}, {3, 4}},
                              {{5 * MiB - 4096, 8192}, {4, 6}},
                              {{7 * MiB, 2 * MiB + 4096}, {7, 10}},
                              {{64 * MiB, 4096}, {64, 65}}};
    for (const Change& change : changes) {
        Node node;
        {
            REQUIRE(node.differences->enter(change.range));
            node.differences->mark_changed(change.range);
        }
        const auto check = [&] {
            const Bitmap regions = node.differences->regions();
            CHECK(regions.all(change.regions));
            CHECK(regions.count() == change.regions.last - change.regions.first);
        };
        check();
        REQUIRE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
        REQUIRE(node.differences->intent_bytes() == 0);
        check();
        node.load();
        check();
    }
}

TEST_CASE("preparing makes the intents of regions with work durable, and of no other") {
    Node node;
    node.differences->mark_changed({3 * MiB, 4096});
    node.differences->mark_changed({9 * MiB - 4096, 8192});
    node.differences->mark_changed({64 * MiB, 4096});
    CHECK(node.differences->prepare(4, 2).value_or(0) == 10);
    CHECK(node.map(MapKind::intent).count() == 2);
    CHECK(node.map(MapKind::intent).all({8, 10}));
    CHECK(node.differences->prepare(10, 2).value_or(0) == 65);
    CHECK(node.differences->prepare(65, 2).value_or(0) == 65);
    node.cut_power([](std::size_t) { return false; });
    CHECK(node.map(MapKind::intent).count() == 3);
    node.differences->mark_changed({20 * MiB, 4096});
    node.machine.meta_faults.fail_flushes(Error{ErrorKind::io, "broken"});
    CHECK_FALSE(node.differences->prepare(20, 1));
}

namespace {

/// A volume whose changed map has many pages, none of which was written to; the others have their
/// space.
struct FullNode : Node {
    static constexpr std::uint64_t big = 4 * GiB;

    FullNode() : Node(big) {
        const auto parts = essential_parts(big);
        auto store = machine.meta.open();
        // The first part is the superblock's, which format() has written.
        for (const ByteRange& map : std::span(parts).subspan(1)) {
            REQUIRE(store->zero(map, Space::keep_allocated));
        }
        REQUIRE(store->flush());
        machine.meta.be_full(true);
    }
    Result<void> checkpoint() {
        return differences->checkpoint(IntentMap::Clear::all, nothing_to_flush);
    }
    void write_alone(std::uint64_t offset) {
        REQUIRE(differences->enter({offset, 4096}));
        differences->mark_changed({offset, 4096});
    }
};

}  // namespace

TEST_CASE("with no space for the changed map the suspect map stands in for it") {
    FullNode node;
    node.write_alone(7 * MiB);
    node.write_alone(3 * GiB);
    REQUIRE(node.checkpoint());
    CHECK(node.differences->intent_bytes() == 0);
    // What is in memory is as fine as ever.
    CHECK(node.differences->behind_bytes() == 8192);

    node.cut_power([](std::size_t) { return false; });
    node.load();
    CHECK(node.map(MapKind::intent).empty());
    CHECK(node.differences->work_in(7).suspect);
    CHECK(node.differences->work_in(3 * 1024).suspect);
    CHECK(node.differences->suspect_bytes() == 2 * MiB);
}

TEST_CASE("with space again the changed bits are written, and then their stand-ins end") {
    FullNode node;
    node.write_alone(7 * MiB);
    REQUIRE(node.checkpoint());
    CHECK_FALSE(node.differences->settled());
    node.machine.meta.be_full(false);
    REQUIRE(node.checkpoint());
    CHECK(node.map(MapKind::changed).count() == 1);
    for (unsigned loss = 0; loss < losses; ++loss) {
        // Whatever a loss of power keeps of that checkpoint or the next, the block is known.
        MemoryDisk cut(node.machine.meta);
        cut.cut_power(kept_by(loss));
        const auto file = MetaFile::load(cut.open(), "cut");
        REQUIRE(file);
        CHECK(((*file)->read_map(MapKind::changed)->test(7 * 256) ||
               (*file)->read_map(MapKind::suspect)->test(7)));
    }
    REQUIRE(node.checkpoint());
    CHECK(node.differences->settled());
    CHECK(node.map(MapKind::suspect).empty());
}

TEST_CASE("stand-ins end with what they stood for, in a full filesystem too") {
    FullNode node;
    node.write_alone(7 * MiB);
    REQUIRE(node.checkpoint());
    REQUIRE(node.map(MapKind::suspect).test(7));
    node.differences->clear_covered({7 * MiB, 4096}, still_in_session);
    REQUIRE(node.checkpoint());
    REQUIRE(node.checkpoint());
    CHECK(node.differences->settled());
    CHECK(node.map(MapKind::suspect).empty());
}

TEST_CASE("a stand-in is not written off by what else is compared in its region") {
    FullNode node;
    node.write_alone(7 * MiB);
    REQUIRE(node.checkpoint());
    Bitmap one(map_bits(MapKind::suspect, FullNode::big));
    one.set({7, 8});
    REQUIRE(node.differences->suspect(one));
    node.differences->found(node.differences->work_in(7), {}, still_in_session);
    REQUIRE(node.checkpoint());
    node.cut_power([](std::size_t) { return false; });
    node.load();
    CHECK(node.differences->work_in(7).suspect);
}

TEST_CASE("without space for the suspects the intents of a former run stay") {
    Node node(FullNode::big);
    { REQUIRE(node.differences->enter({5 * MiB, 4096})); }
    node.machine.meta.be_full(true);
    node.load();
    CHECK(node.differences->work_in(5).suspect);
    // Another write to that sector of the map does not wipe them.
    { REQUIRE(node.differences->enter({9 * MiB, 4096})); }
    CHECK(node.map(MapKind::intent).test(5));
    REQUIRE_FALSE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    CHECK(node.map(MapKind::intent).test(5));
    node.machine.meta.be_full(false);
    REQUIRE(node.differences->checkpoint(IntentMap::Clear::all, nothing_to_flush));
    CHECK(node.map(MapKind::intent).empty());
    CHECK(node.map(MapKind::suspect).test(5));
}
