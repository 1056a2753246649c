// SPDX-License-Identifier: BSD-3-Clause
// A framed export under requests that are nearly right: their checksums fit where the input says
// so, since no mutation would find them. Nothing that was refused may reach the export inside.
#include <array>
#include <memory>
#include <vector>

#include "core/base/checksum.hpp"
#include "core/nbd/framed_export.hpp"
#include "input.hpp"

namespace mirror::fuzz {
namespace {

constexpr std::uint64_t size = 64 * KiB;

struct Seen {
    bool refused = false;
};

class Inner final : public nbd::Export {
  public:
    explicit Inner(const Seen& seen) : seen_(seen) {}
    nbd::Traits traits() const override {
        return {.size = size, .flush = true, .trim = true, .zero = true};
    }
    Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        check({offset, into.size()});
        std::fill(into.begin(), into.end(), std::byte{0x5A});
        return {};
    }
    Result<void> write(std::span<const std::byte> from, std::uint64_t offset) override {
        check({offset, from.size()});
        return from.size() % 7 == 6 ? fail(ErrorKind::refused, "not now") : Result<void>();
    }
    Result<void> zero(ByteRange range, Space) override {
        check(range);
        return {};
    }
    Result<void> trim(ByteRange range) override { return zero(range, Space::may_free); }
    Result<void> flush() override { return {}; }
    Result<std::vector<Extent>> extents(ByteRange range) override {
        return std::vector<Extent>{{range, false}};
    }

  private:
    void check(ByteRange range) const {
        require(range.fits_in(size), "frames stay within the export");
        require(!seen_.refused, "nothing is applied behind a garbled frame");
    }
    const Seen& seen_;
};

using Raw = std::array<std::byte, nbd::FrameHeader::wire_size>;

/// A header as the input has it, or one that makes sense, with a checksum that fits.
Raw make_header(Input& input, std::uint64_t sequence, Bytes data) {
    Raw raw{};
    if (input.flag()) {
        const Bytes part = input.bytes(raw.size());
        std::copy(part.begin(), part.end(), raw.begin());
        return raw;
    }
    const std::uint8_t skip = input.number<std::uint8_t>();
    const nbd::FrameHeader header{
        .op = static_cast<nbd::FrameOp>(input.number<std::uint8_t>() % 5),
        .flags = input.number<std::uint8_t>(),
        .sequence = sequence + (skip < 250 ? 0 : skip),
        .range = {input.number<std::uint32_t>(),
                  input.flag() ? data.size() : input.number<std::uint64_t>()}};
    nbd::store_frame(raw, header, crc32c(data));
    return raw;
}

void write_frame(nbd::FramedExport& framed, Input& input, std::uint64_t sequence) {
    const Bytes data = input.bytes(input.number<std::uint16_t>());
    const Raw header = make_header(input, sequence, data);
    if (input.flag()) {
        std::vector<std::byte> whole(header.begin(), header.end());
        whole.insert(whole.end(), data.begin(), data.end());
        (void)framed.write(whole, nbd::frame_offset);
    } else {
        (void)framed.write(header, nbd::frame_offset);
        (void)framed.write(data, nbd::apart_offset);
    }
}

void read_back(nbd::FramedExport& framed, Input& input) {
    std::vector<std::byte> answer(input.number<std::uint16_t>());
    const auto offset = input.number<std::uint32_t>();
    if (framed.read(answer, offset)) {
        require(nbd::trailer_fits(answer, offset),
                "an answer has the trailer that its asker wants");
    }
}

}  // namespace

void frames(Bytes bytes) {
    Input input(bytes);
    Seen seen;
    nbd::FramedExport framed(std::make_unique<Inner>(seen),
                             [&seen](const Error&) { seen.refused = true; });
    for (std::uint64_t sequence = 1; !input.at_end(); ++sequence) {
        switch (input.number<std::uint8_t>() % 6) {
            case 0:
            case 1:
                write_frame(framed, input, sequence);
                break;
            case 2:
                read_back(framed, input);
                break;
            case 3: {
                const std::uint64_t offset = input.number<std::uint64_t>();
                (void)framed.write(input.bytes(input.number<std::uint16_t>()), offset);
                break;
            }
            case 4:
                (void)framed.zero({input.number<std::uint64_t>(), input.number<std::uint32_t>()},
                                  Space::may_free);
                break;
            default:
                (void)framed.wants_flush();
                require(!seen.refused || framed.is_over(), "a refusal ends the connection");
        }
    }
}

}  // namespace mirror::fuzz
