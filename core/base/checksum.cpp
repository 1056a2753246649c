// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/checksum.hpp"

#include <algorithm>
#include <cstring>

#include <xxhash.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace mirror {
namespace {

constexpr std::uint32_t polynomial = 0x82F63B78;  // Castagnoli's, bits reversed

constexpr std::array<std::uint32_t, 256> make_crc_table() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
        std::uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? polynomial : 0);
        }
        table[byte] = crc;
    }
    return table;
}

constexpr std::array<std::uint32_t, 256> crc_table = make_crc_table();

#if defined(__x86_64__)
#define MIRROR_CRC_TARGET __attribute__((target("sse4.2")))
bool has_instruction() noexcept {
    static const bool has = __builtin_cpu_supports("sse4.2") != 0;
    return has;
}
MIRROR_CRC_TARGET inline std::uint64_t step(std::uint64_t crc, std::uint64_t word) noexcept {
    return _mm_crc32_u64(crc, word);
}
MIRROR_CRC_TARGET inline std::uint64_t step(std::uint64_t crc, std::uint8_t byte) noexcept {
    return _mm_crc32_u8(static_cast<std::uint32_t>(crc), byte);
}
#elif defined(__aarch64__) && defined(__linux__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MIRROR_CRC_TARGET __attribute__((target("+crc")))
bool has_instruction() noexcept {
    static const bool has = (::getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
    return has;
}
MIRROR_CRC_TARGET inline std::uint64_t step(std::uint64_t crc, std::uint64_t word) noexcept {
    return __crc32cd(static_cast<std::uint32_t>(crc), word);
}
MIRROR_CRC_TARGET inline std::uint64_t step(std::uint64_t crc, std::uint8_t byte) noexcept {
    return __crc32cb(static_cast<std::uint32_t>(crc), byte);
}
#endif

#if defined(MIRROR_CRC_TARGET)

/// What `length` zero bytes, a power of two, do to the register: a linear map, so that it can be
/// looked up byte by byte.
class ZeroRun {
  public:
    explicit constexpr ZeroRun(std::size_t length) {
        // One zero bit first; squaring doubles the run.
        Matrix map{};
        map[0] = polynomial;
        for (std::size_t bit = 1; bit < map.size(); ++bit) {
            map[bit] = std::uint32_t{1} << (bit - 1);
        }
        for (std::size_t bits = 1; bits < length * 8; bits *= 2) {
            Matrix twice{};
            for (std::size_t bit = 0; bit < map.size(); ++bit) {
                twice[bit] = apply(map, map[bit]);
            }
            map = twice;
        }
        for (std::uint32_t byte = 0; byte < 256; ++byte) {
            for (std::size_t place = 0; place < table_.size(); ++place) {
                table_[place][byte] = apply(map, byte << (8 * place));
            }
        }
    }
    [[nodiscard]] constexpr std::uint64_t operator()(std::uint64_t crc) const noexcept {
        return table_[0][crc & 0xff] ^ table_[1][(crc >> 8) & 0xff] ^
               table_[2][(crc >> 16) & 0xff] ^ table_[3][(crc >> 24) & 0xff];
    }

  private:
    using Matrix = std::array<std::uint32_t, 32>;
    static constexpr std::uint32_t apply(const Matrix& map, std::uint32_t vector) {
        std::uint32_t sum = 0;
        for (std::size_t bit = 0; vector != 0; ++bit, vector >>= 1) {
            sum ^= (vector & 1) != 0 ? map[bit] : 0;
        }
        return sum;
    }
    std::array<std::array<std::uint32_t, 256>, 4> table_{};
};

inline std::uint64_t load_word(const std::byte* from) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, from, sizeof(word));
    return word;
}

/// The instruction takes three cycles and one can be begun in each: three runs side by side, joined
/// afterwards.
template <std::size_t length>
MIRROR_CRC_TARGET std::uint64_t by_three(std::span<const std::byte>& bytes,
                                         std::uint64_t crc) noexcept {
    static constexpr ZeroRun beyond(length);
    while (bytes.size() >= 3 * length) {
        const std::byte* const from = bytes.data();
        std::uint64_t second = 0;
        std::uint64_t third = 0;
        for (std::size_t at = 0; at < length; at += sizeof(std::uint64_t)) {
            crc = step(crc, load_word(from + at));
            second = step(second, load_word(from + length + at));
            third = step(third, load_word(from + 2 * length + at));
        }
        crc = beyond(beyond(crc) ^ second) ^ third;
        bytes = bytes.subspan(3 * length);
    }
    return crc;
}

MIRROR_CRC_TARGET std::uint32_t crc32c_by_instruction(std::span<const std::byte> bytes,
                                                      std::uint32_t seed) noexcept {
    std::uint64_t crc = ~seed;
    crc = by_three<1024>(bytes, crc);
    crc = by_three<128>(bytes, crc);
    for (; bytes.size() >= sizeof(std::uint64_t); bytes = bytes.subspan(sizeof(std::uint64_t))) {
        crc = step(crc, load_word(bytes.data()));
    }
    for (const std::byte byte : bytes) {
        crc = step(crc, std::to_integer<std::uint8_t>(byte));
    }
    return ~static_cast<std::uint32_t>(crc);
}

#endif

}  // namespace

namespace detail {

std::uint32_t crc32c_by_table(std::span<const std::byte> bytes, std::uint32_t seed) noexcept {
    std::uint32_t crc = ~seed;
    for (std::byte byte : bytes) {
        crc = (crc >> 8) ^ crc_table[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xff];
    }
    return ~crc;
}

}  // namespace detail

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed) noexcept {
#if defined(MIRROR_CRC_TARGET)
    if (has_instruction()) {
        return crc32c_by_instruction(bytes, seed);
    }
#endif
    return detail::crc32c_by_table(bytes, seed);
}

Digester::Digester(const SessionId& session) {
    // Both nodes must derive the same secret whatever their versions of the library:
    // XXH3_generateSecret() is outside its stable interface, the seeded hash is not.
    constexpr std::size_t step = sizeof(XXH128_canonical_t);
    static_assert(std::tuple_size_v<decltype(secret_)> % step == 0);
    for (std::size_t at = 0; at < secret_.size(); at += step) {
        XXH128_canonical_t part;
        XXH128_canonicalFromHash(
            &part, XXH3_128bits_withSeed(session.bytes.data(), session.bytes.size(), at));
        std::memcpy(secret_.data() + at, part.digest, step);
    }
}

Digest Digester::operator()(std::span<const std::byte> bytes) const noexcept {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSecret(bytes.data(), bytes.size(),
                                                                 secret_.data(), secret_.size()));
    Digest digest;
    std::memcpy(digest.data(), canonical.digest, digest.size());
    return digest;
}

bool is_zero(std::span<const std::byte> bytes) noexcept {
    // Where the first bytes are zero and every byte equals the one 16 further on, all are zero;
    // memcmp() compares at the speed of the memory.
    constexpr std::size_t head = 16;
    for (std::byte byte : bytes.first(std::min(head, bytes.size()))) {
        if (byte != std::byte{0}) {
            return false;
        }
    }
    return bytes.size() <= head ||
           std::memcmp(bytes.data(), bytes.data() + head, bytes.size() - head) == 0;
}

}  // namespace mirror
