// SPDX-License-Identifier: BSD-3-Clause
#include "core/undo/undo_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <sys/stat.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "core/undo/undo_export.hpp"
#include "core/undo/undo_folder.hpp"
#include "core/undo/undo_writer.hpp"
#include "temp_dir.hpp"

using namespace mirror;

namespace {

constexpr std::uint64_t volume_size = 8 * MiB;
constexpr std::size_t sector = 512;

using Bytes = std::vector<std::byte>;

UndoInfo info() {
    UndoInfo info;
    info.volume = random_id<VolumeId>();
    info.volume_name = "r0";
    info.volume_size = volume_size;
    info.node = "beta";
    info.kept = std::string(63, 'k');
    info.made_at = WallTime(std::chrono::seconds(1700000000));
    info.generation = random_id<GenerationId>();
    info.kept_generation = random_id<GenerationId>();
    info.ancestor = random_id<GenerationId>();
    return info;
}

Bytes pattern(std::size_t size, unsigned seed) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::byte>((i * 131 + i / 251 + seed) | 1U);
    }
    return bytes;
}

Bytes read_all(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    Bytes bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
}

void write_all(const std::string& path, const Bytes& bytes) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
}

/// A block alone, a run with zeroes in the middle, one longer than a piece, and the volume's end.
std::map<std::uint64_t, Bytes> what_is_saved() {
    std::map<std::uint64_t, Bytes> saved;
    saved[4096] = pattern(4096, 1);
    Bytes mixed = pattern(3 * 4096, 2);
    std::fill(mixed.begin() + 4096, mixed.begin() + 8192, std::byte{0});
    saved[1 * MiB] = mixed;
    saved[2 * MiB] = pattern(80 * 1024, 3);
    saved[volume_size - 4096] = pattern(4096, 4);
    return saved;
}

void make_undo(const std::string& path, const UndoInfo& about) {
    auto writer = UndoWriter::create(path, about);
    REQUIRE(writer);
    for (const auto& [offset, data] : what_is_saved()) {
        REQUIRE(writer->add(offset, data));
    }
    REQUIRE(writer->finish());
}

/// The volume with what the undo gives, or nothing where it refuses.
Bytes expected_volume() {
    Bytes volume(volume_size);
    for (const auto& [offset, data] : what_is_saved()) {
        std::copy(data.begin(), data.end(), volume.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    return volume;
}

}  // namespace

TEST_CASE("an undo is on the disk before it has its name, and its name before finish() returns") {
    const test::TempDir folder;
    const std::string path = folder.file("undo-1");
    std::vector<std::string> order;
    Bytes synced;
    int failing = 0;
    const DurableCalls calls{
        .sync = [&](int fd) -> int {
            const std::string file =
                std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd));
            order.push_back("sync " + std::filesystem::relative(file, folder.path()).string());
            if (file == path + ".part") {
                synced = read_all(file);
            }
            if (std::cmp_equal(order.size(), failing)) {
                errno = EIO;
                return -1;
            }
            return 0;
        },
        .rename = [&](const char* from, const char* to) -> int {
            order.emplace_back("rename");
            return ::rename(from, to);
        }};
    auto writer = UndoWriter::create(path, info(), calls);
    REQUIRE(writer);
    for (const auto& [offset, data] : what_is_saved()) {
        REQUIRE(writer->add(offset, data));
    }
    SUBCASE("all goes well") {
        REQUIRE(writer->finish());
        CHECK(order == std::vector<std::string>{"sync undo-1.part", "rename", "sync ."});
        // Nothing was written to it afterwards.
        CHECK(read_all(path) == synced);
    }
    SUBCASE("what can't be made durable gets no name") {
        failing = 1;
        CHECK_FALSE(writer->finish());
        CHECK(order == std::vector<std::string>{"sync undo-1.part"});
        CHECK_FALSE(std::filesystem::exists(path));
    }
    SUBCASE("a name that can't be made durable is taken back") {
        failing = 3;
        CHECK_FALSE(writer->finish());
        CHECK_FALSE(std::filesystem::exists(path));
    }
}

TEST_CASE("what was saved comes back, with who, when and why") {
    const test::TempDir dir;
    const UndoInfo about = info();
    make_undo(dir.file("undo-1"), about);
    const auto undo = UndoFile::open(dir.file("undo-1"));
    REQUIRE(undo);
    CHECK(undo->info() == about);
    CHECK(undo->saved_bytes() == 4096 + 3 * 4096 + 80 * 1024 + 4096);
    CHECK(undo->runs() == 4);
    Bytes volume(volume_size);
    for (const UndoPiece& piece : undo->pieces()) {
        REQUIRE(
            undo->read(piece, std::span(volume).subspan(piece.range.offset, piece.range.length)));
    }
    CHECK(volume == expected_volume());
    CHECK(std::filesystem::file_size(dir.file("undo-1")) <=
          UndoWriter::space_for(undo->saved_bytes(), undo->runs()));
}

TEST_CASE("zeroes are remembered and take no space") {
    const test::TempDir dir;
    auto writer = UndoWriter::create(dir.file("undo-1"), info());
    REQUIRE(writer);
    REQUIRE(writer->add(0, Bytes(1 * MiB)));
    REQUIRE(writer->finish());
    const auto undo = UndoFile::open(dir.file("undo-1"));
    REQUIRE(undo);
    CHECK(undo->saved_bytes() == 1 * MiB);
    CHECK(std::filesystem::file_size(dir.file("undo-1")) < 8192);
}

TEST_CASE("an undo that was not finished is none, and leaves nothing") {
    const test::TempDir dir;
    {
        auto writer = UndoWriter::create(dir.file("undo-1"), info());
        REQUIRE(writer);
        REQUIRE(writer->add(0, pattern(4096, 1)));
        CHECK_FALSE(std::filesystem::exists(dir.file("undo-1")));
    }
    CHECK(std::filesystem::is_empty(dir.path()));
}

TEST_CASE("damage of any sector is noticed, and never gives wrong data") {
    const test::TempDir dir;
    make_undo(dir.file("good"), info());
    const Bytes good = read_all(dir.file("good"));
    const Bytes volume = expected_volume();
    const std::string bad = dir.file("bad");
    for (std::size_t at = 0; at < good.size(); at += sector) {
        CAPTURE(at);
        for (const bool zeroed : {false, true}) {
            Bytes damaged = good;
            const std::size_t end = std::min(at + sector, good.size());
            if (zeroed) {
                std::fill(damaged.begin() + static_cast<std::ptrdiff_t>(at),
                          damaged.begin() + static_cast<std::ptrdiff_t>(end), std::byte{0});
            } else {
                damaged[at + (end - at) / 2] ^= std::byte{0x10};
            }
            if (damaged == good) {
                continue;  // padding of the header that is zero anyway
            }
            write_all(bad, damaged);
            const auto undo = UndoFile::open(bad);
            if (!undo) {
                CHECK(undo.error().kind == ErrorKind::corrupt);
                continue;
            }
            std::size_t refused = 0;
            Bytes data(undo_piece_size);
            for (const UndoPiece& piece : undo->pieces()) {
                const std::span<std::byte> into(data.data(), piece.range.length);
                if (auto got = undo->read(piece, into); !got) {
                    CHECK(got.error().kind == ErrorKind::corrupt);
                    ++refused;
                    continue;
                }
                CHECK(std::equal(into.begin(), into.end(),
                                 volume.begin() + static_cast<std::ptrdiff_t>(piece.range.offset)));
            }
            CHECK(refused > 0);
        }
    }
}

TEST_CASE("a file that was cut or grew is refused") {
    const test::TempDir dir;
    make_undo(dir.file("good"), info());
    const Bytes good = read_all(dir.file("good"));
    for (std::size_t size = 0; size < good.size(); size += sector) {
        write_all(dir.file("bad"),
                  Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)));
        CHECK_FALSE(UndoFile::open(dir.file("bad")));
    }
    Bytes longer = good;
    longer.resize(good.size() + 24);
    write_all(dir.file("bad"), longer);
    CHECK_FALSE(UndoFile::open(dir.file("bad")));
}

TEST_CASE("an export is a sparse image; over a copy it also writes zeroes") {
    const test::TempDir dir;
    make_undo(dir.file("undo-1"), info());
    const auto undo = UndoFile::open(dir.file("undo-1"));
    REQUIRE(undo);
    const auto done = export_image(*undo, dir.file("image"));
    REQUIRE(done);
    CHECK(done->damaged.empty());
    CHECK(read_all(dir.file("image")) == expected_volume());
    struct stat found {};
    REQUIRE(::stat(dir.file("image").c_str(), &found) == 0);
    CHECK(found.st_blocks * 512 < 1024 * 1024);
    CHECK_FALSE(export_image(*undo, dir.file("image")));

    write_all(dir.file("copy"), pattern(volume_size, 9));
    REQUIRE(export_over(*undo, dir.file("copy")));
    Bytes expected = pattern(volume_size, 9);
    for (const auto& [offset, data] : what_is_saved()) {
        std::copy(data.begin(), data.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    CHECK(read_all(dir.file("copy")) == expected);
    write_all(dir.file("short"), Bytes(4096));
    CHECK_FALSE(export_over(*undo, dir.file("short")));
}

TEST_CASE("an export of a damaged undo names what it left out") {
    const test::TempDir dir;
    make_undo(dir.file("undo-1"), info());
    Bytes damaged = read_all(dir.file("undo-1"));
    damaged[4096 + 100] ^= std::byte{1};  // the first piece's data
    write_all(dir.file("undo-1"), damaged);
    const auto undo = UndoFile::open(dir.file("undo-1"));
    REQUIRE(undo);
    const auto done = export_image(*undo, dir.file("image"));
    REQUIRE(done);
    REQUIRE(done->damaged.size() == 1);
    CHECK(done->damaged[0] == ByteRange{4096, 4096});
    Bytes expected = expected_volume();
    std::fill(expected.begin() + 4096, expected.begin() + 8192, std::byte{0});
    CHECK(read_all(dir.file("image")) == expected);
}

TEST_CASE("a folder numbers its undo files, and keeps the numbers of the others") {
    const test::TempDir dir;
    const UndoFolder folder(dir.path(), "r0");
    CHECK(folder.list().value().empty());
    CHECK(folder.next_id().value() == 1);
    std::filesystem::create_directory(dir.file("r0"));
    for (const std::uint64_t id : {1U, 2U, 3U}) {
        make_undo(folder.path_of(id), info());
    }
    write_all(dir.file("r0/undo-4.part"), pattern(100, 1));
    write_all(dir.file("r0/meta"), pattern(100, 1));
    REQUIRE(folder.drop(1));
    CHECK(folder.drop(1).error().kind == ErrorKind::not_found);
    write_all(folder.path_of(3), pattern(9000, 1));
    const auto list = folder.list().value();
    REQUIRE(list.size() == 2);
    CHECK(list[0].id == 2);
    CHECK(list[0].info.has_value());
    CHECK(list[1].id == 3);
    CHECK_FALSE(list[1].info.has_value());
    CHECK_FALSE(list[1].problem.empty());
    CHECK(folder.next_id().value() == 4);
    folder.remove_unfinished();
    CHECK_FALSE(std::filesystem::exists(dir.file("r0/undo-4.part")));
    CHECK(folder.free_bytes().value() > 0);
}
