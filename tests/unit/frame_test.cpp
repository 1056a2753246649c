// SPDX-License-Identifier: BSD-3-Clause
// Frames and trailers, and the export that takes them: what was garbled is never applied.
#include "core/nbd/frame.hpp"

#include <cstring>
#include <random>

#include <doctest/doctest.h>

#include "core/base/checksum.hpp"
#include "core/nbd/framed_export.hpp"

using namespace mirror;
using namespace mirror::nbd;

namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint64_t volume = 256 * KiB;

Bytes random_bytes(std::size_t count, unsigned seed) {
    std::minstd_rand generator(seed);
    Bytes bytes(count);
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(generator() >> 8);
    }
    return bytes;
}

Bytes frame_of(const FrameHeader& header, const Bytes& data) {
    Bytes frame(FrameHeader::wire_size + data.size());
    const std::uint32_t sum = copy_summed(std::span(frame).subspan(FrameHeader::wire_size), data);
    store_frame(std::span(frame).first<FrameHeader::wire_size>(), header, sum);
    return frame;
}

Bytes head_of(const FrameHeader& header, const Bytes& data) {
    Bytes head(FrameHeader::wire_size);
    store_frame(std::span(head).first<FrameHeader::wire_size>(), header, crc32c(data));
    return head;
}

Bytes write_frame(std::uint64_t sequence, std::uint64_t offset, const Bytes& data) {
    return frame_of({.op = FrameOp::write, .sequence = sequence, .range = {offset, data.size()}},
                    data);
}

Result<FrameHeader> load(const Bytes& frame) {
    const std::span<const std::byte> all(frame);
    return load_frame(all.first<FrameHeader::wire_size>(), all.subspan(FrameHeader::wire_size));
}

void flip(Bytes& bytes, std::size_t bit) {
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
}

/// Puts a new checksum on a frame whose fields were changed by hand.
void sign(Bytes& frame) {
    const std::span<const std::byte> all(frame);
    const std::uint32_t data_sum = crc32c(all.subspan(FrameHeader::wire_size));
    store_be(frame.data() + 4, crc32c(all.first<FrameHeader::wire_size>().subspan(8), data_sum));
}

/// Remembers what is done to it.
class Disk final : public Export {
  public:
    struct State {
        Bytes content = Bytes(volume);
        int changes = 0;
        Result<void> next;
    };
    explicit Disk(State& state) : state_(state) {}

    [[nodiscard]] Traits traits() const override {
        return {.size = volume, .flush = true, .trim = true, .zero = true};
    }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        std::memcpy(into.data(), state_.content.data() + offset, into.size());
        return {};
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        ++state_.changes;
        std::memcpy(state_.content.data() + offset, from.data(), from.size());
        return state_.next;
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space) override {
        ++state_.changes;
        std::memset(state_.content.data() + range.offset, 0, range.length);
        return {};
    }
    [[nodiscard]] Result<void> trim(ByteRange range) override {
        return zero(range, Space::may_free);
    }
    [[nodiscard]] Result<void> flush() override { return state_.next; }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return std::vector<Extent>{{range, false}};
    }

  private:
    State& state_;
};

struct Framed {
    Disk::State disk{};
    std::vector<Error> reports{};
    FramedExport exported{std::make_unique<Disk>(disk),
                          [this](const Error& error) { reports.push_back(error); }};

    Result<void> take(const Bytes& frame, std::uint64_t at = frame_offset) {
        return exported.write(frame, at);
    }
    /// Nothing was applied, it was said once, and nothing is taken any more.
    void check_refused(const Result<void>& result) {
        REQUIRE_FALSE(result);
        CHECK(result.error().kind == ErrorKind::corrupt);
        CHECK(disk.changes == 0);
        CHECK(exported.is_over());
        CHECK_FALSE(take(write_frame(1, 0, Bytes(512))));
        CHECK(disk.changes == 0);
        CHECK(reports.size() == 1);
    }
};

}  // namespace

TEST_CASE("a frame comes back as it was stored, copied or apart from its data") {
    for (const std::size_t size : {1UL, 511UL, 4096UL, 12288UL, 12289UL, 100000UL}) {
        const Bytes data = random_bytes(size, 1);
        const FrameHeader header{.op = FrameOp::write,
                                 .flags = frame_flag::fua,
                                 .sequence = 0x123456789,
                                 .range = {77, size}};
        const Bytes whole = frame_of(header, data);
        CHECK(std::memcmp(whole.data() + FrameHeader::wire_size, data.data(), size) == 0);
        const Bytes head = head_of(header, data);
        CHECK(std::memcmp(whole.data(), head.data(), head.size()) == 0);
        const auto loaded = load(whole);
        REQUIRE(loaded);
        CHECK(loaded->op == FrameOp::write);
        CHECK(loaded->has(frame_flag::fua));
        CHECK(loaded->sequence == header.sequence);
        CHECK(loaded->range == header.range);
    }
}

TEST_CASE("every single bit of a frame that is flipped is noticed") {
    const Bytes good = write_frame(1, 8192, random_bytes(512, 2));
    REQUIRE(load(good));
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
        Bytes bad = good;
        flip(bad, bit);
        REQUIRE_FALSE(load(bad));
        REQUIRE(load(bad).error().kind == ErrorKind::corrupt);
    }
}

TEST_CASE("every single bit of a frame without data that is flipped is noticed") {
    const std::uint8_t flags[] = {0, frame_flag::fua, frame_flag::keep_allocated};
    for (const std::uint8_t flag : flags) {
        for (const FrameOp op : {FrameOp::zero, FrameOp::flush}) {
            const ByteRange range = op == FrameOp::zero ? ByteRange{8192, 65536} : ByteRange{};
            const Bytes good =
                frame_of({.op = op, .flags = flag, .sequence = 5, .range = range}, {});
            REQUIRE(load(good));
            for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
                Bytes bad = good;
                flip(bad, bit);
                REQUIRE_FALSE(load(bad));
                REQUIRE(load(bad).error().kind == ErrorKind::corrupt);
            }
        }
    }
}

TEST_CASE("bursts, swapped pieces, lost and added bytes of a frame are noticed") {
    std::minstd_rand random(3);
    const Bytes good = write_frame(1, 8192, random_bytes(4096, 4));
    for (int turn = 0; turn < 20000; ++turn) {
        Bytes bad = good;
        switch (turn % 4) {
            case 0: {
                const std::size_t at = random() % (bad.size() - 4);
                const Bytes noise = random_bytes(4, static_cast<unsigned>(turn + 1));
                std::memcpy(bad.data() + at, noise.data(), noise.size());
                break;
            }
            case 1:
                bad.resize(FrameHeader::wire_size + random() % 4096);
                break;
            case 2:
                bad.resize(bad.size() + 1 + random() % 64);
                break;
            default:
                std::swap(bad[random() % bad.size()], bad[random() % bad.size()]);
        }
        if (bad != good) {
            REQUIRE_FALSE(load(bad));
        }
    }
}

TEST_CASE("what has a right checksum and makes no sense is refused all the same") {
    const Bytes good = write_frame(1, 0, Bytes(64));
    const auto refused = [&](std::size_t at, int value) {
        Bytes bad = good;
        bad[at] = static_cast<std::byte>(value);
        sign(bad);
        const auto loaded = load(bad);
        return !loaded && loaded.error().kind == ErrorKind::protocol;
    };
    CHECK(refused(8, 0));     // op
    CHECK(refused(8, 2));     // zero with data
    CHECK(refused(8, 3));     // flush with data
    CHECK(refused(8, 9));     // op
    CHECK(refused(9, 0x80));  // flags
    CHECK(refused(12, 1));    // what must be zero
    CHECK(refused(39, 63));   // length
    CHECK(refused(32, 1));    // length
    CHECK_FALSE(load(frame_of({.op = FrameOp::write, .sequence = 1}, {})));
    CHECK_FALSE(load(frame_of({.op = FrameOp::zero, .sequence = 1}, {})));
    CHECK_FALSE(load(frame_of({.op = FrameOp::flush, .sequence = 1, .range = {1, 1}}, {})));
}

TEST_CASE("a trailer fits one answer to one question") {
    Bytes answer = random_bytes(512 + trailer_size, 5);
    store_trailer(answer, 4096);
    REQUIRE(trailer_fits(answer, 4096));
    for (std::size_t bit = 0; bit < 64; ++bit) {
        CHECK_FALSE(trailer_fits(answer, 4096 ^ (std::uint64_t{1} << bit)));
    }
    for (std::size_t bit = 0; bit < answer.size() * 8; ++bit) {
        Bytes bad = answer;
        flip(bad, bit);
        REQUIRE_FALSE(trailer_fits(bad, 4096));
    }
    for (std::size_t size = 0; size < answer.size(); ++size) {
        REQUIRE_FALSE(trailer_fits(std::span(answer).first(size), 4096));
    }
    Bytes nothing(trailer_size);
    store_trailer(nothing, 0);
    CHECK(trailer_fits(nothing, 0));
    CHECK_FALSE(trailer_fits(Bytes(512 + trailer_size), 0));
}

TEST_CASE("a framed export applies what frames say") {
    Framed framed;
    CHECK(framed.exported.traits().size == framed_base + volume);
    const Bytes data = random_bytes(4096, 6);
    REQUIRE(framed.take(write_frame(1, 8192, data)));
    CHECK_FALSE(framed.exported.wants_flush());
    CHECK(std::memcmp(framed.disk.content.data() + 8192, data.data(), data.size()) == 0);
    REQUIRE(framed.take(frame_of(
        {.op = FrameOp::zero, .flags = frame_flag::fua, .sequence = 2, .range = {8192, 512}}, {})));
    CHECK(framed.exported.wants_flush());
    CHECK(framed.disk.content[8192] == std::byte{0});
    CHECK(framed.disk.content[8192 + 512] == data[512]);
    REQUIRE(framed.take(frame_of({.op = FrameOp::flush, .sequence = 3}, {})));
    CHECK(framed.exported.wants_flush());
    const Bytes head = head_of({.op = FrameOp::write,
                                .flags = frame_flag::data_apart,
                                .sequence = 4,
                                .range = {0, data.size()}},
                               data);
    REQUIRE(framed.take(head));
    CHECK(framed.disk.changes == 2);
    REQUIRE(framed.take(data, apart_offset));
    CHECK_FALSE(framed.exported.wants_flush());
    CHECK(framed.disk.changes == 3);
    Bytes answer(512 + trailer_size);
    REQUIRE(framed.exported.read(answer, 1024));
    CHECK(trailer_fits(answer, 1024));
    CHECK(std::memcmp(answer.data(), data.data() + 1024, 512) == 0);
    CHECK(framed.reports.empty());
    CHECK_FALSE(framed.exported.is_over());
}

TEST_CASE("a garbled frame is not applied, nor is what comes after it, and it is said once") {
    const Bytes data = random_bytes(512, 7);
    const Bytes good = write_frame(1, 0, data);
    SUBCASE("any bit") {
        for (std::size_t bit = 0; bit < good.size() * 8; bit += 5) {
            Framed framed;
            Bytes bad = good;
            flip(bad, bit);
            Result<void> result = framed.take(bad);
            // A frame may now claim that its data come apart: then it is they that do not fit.
            if (result) {
                result = framed.take(data, apart_offset);
            }
            framed.check_refused(result);
        }
    }
    SUBCASE("too short for a header") {
        for (std::size_t size = 1; size < FrameHeader::wire_size; ++size) {
            Framed framed;
            framed.check_refused(framed.take(Bytes(good.begin(), good.begin() + 39)));
        }
    }
    SUBCASE("another place than frames have") {
        for (std::size_t bit = 0; bit < 63; ++bit) {
            Framed framed;
            framed.check_refused(framed.take(good, frame_offset ^ (std::uint64_t{1} << bit)));
        }
    }
    SUBCASE("beyond the end, whatever the numbers") {
        for (const std::uint64_t offset : {volume - 511, volume, ~std::uint64_t{0} - 100}) {
            Framed framed;
            framed.check_refused(framed.take(write_frame(1, offset, data)));
        }
    }
    SUBCASE("commands without a frame, and reads that became something else") {
        Framed zeroed;
        zeroed.check_refused(zeroed.exported.zero({0, 512}, Space::may_free));
        Framed trimmed;
        trimmed.check_refused(trimmed.exported.trim({0, 512}));
        Framed read;
        Bytes into(512 + trailer_size);
        read.check_refused(read.exported.read(into, frame_offset));
        Framed short_read;
        short_read.check_refused(short_read.exported.read(std::span(into).first(4), 0));
    }
}

TEST_CASE("a frame that comes twice, too early or without its data is refused") {
    const Bytes data = random_bytes(512, 8);
    Framed twice;
    REQUIRE(twice.take(write_frame(1, 0, data)));
    CHECK_FALSE(twice.take(write_frame(1, 0, data)));
    CHECK(twice.disk.changes == 1);
    CHECK(twice.reports.size() == 1);
    Framed early;
    early.check_refused(early.take(write_frame(2, 0, data)));
    const Bytes head = head_of({.op = FrameOp::write,
                                .flags = frame_flag::data_apart,
                                .sequence = 1,
                                .range = {0, data.size()}},
                               data);
    Framed another;
    REQUIRE(another.take(head));
    another.check_refused(another.take(head));
    Framed shorter;
    REQUIRE(shorter.take(head));
    shorter.check_refused(shorter.take(Bytes(data.begin(), data.end() - 1), apart_offset));
}

TEST_CASE(
    "a failing disk is no garbled frame, and its error is more than a flipped bit from none") {
    Framed framed;
    framed.disk.next = fail(ErrorKind::refused, "read-only");
    const auto refused = framed.take(write_frame(1, 0, Bytes(512)));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind == ErrorKind::io);
    framed.disk.next = fail(ErrorKind::no_space, "the disk is full");
    CHECK(framed.take(write_frame(2, 0, Bytes(512))).error().kind == ErrorKind::no_space);
    framed.disk.next = {};
    CHECK(framed.take(write_frame(3, 0, Bytes(512))));
    CHECK(framed.reports.empty());
}

TEST_CASE("random bytes never change anything") {
    for (unsigned turn = 1; turn < 3000; ++turn) {
        Framed framed;
        Bytes noise = random_bytes(FrameHeader::wire_size + turn % 600, turn);
        if (turn % 2 == 0) {
            std::memcpy(noise.data(), write_frame(1, 0, Bytes(64)).data(), 10 + turn % 20);
        }
        (void)framed.take(noise);
        (void)framed.take(noise, apart_offset);
        REQUIRE(framed.disk.changes == 0);
    }
}

TEST_CASE("no answer's error is one bit from a success, a flush's neither") {
    Framed framed;
    framed.disk.next = fail(ErrorKind::refused, "EPERM is 1");
    const auto flushed = framed.exported.flush();
    REQUIRE_FALSE(flushed);
    CHECK(flushed.error().kind == ErrorKind::io);
    const auto written = framed.take(write_frame(1, 0, Bytes(512)));
    REQUIRE_FALSE(written);
    CHECK(written.error().kind == ErrorKind::io);
}
