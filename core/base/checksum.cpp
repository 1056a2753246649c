// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/checksum.hpp"

#include <algorithm>
#include <cstring>

#include <xxhash.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace mirror {
namespace {

constexpr std::array<std::uint32_t, 256> make_crc_table() {
    constexpr std::uint32_t polynomial = 0x82F63B78;  // Castagnoli's, bits reversed
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
__attribute__((target("sse4.2"))) std::uint32_t crc32c_by_instruction(
    std::span<const std::byte> bytes, std::uint32_t seed) noexcept {
    std::uint64_t crc = ~seed;
    std::size_t done = 0;
    for (; bytes.size() - done >= sizeof(std::uint64_t); done += sizeof(std::uint64_t)) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes.data() + done, sizeof(word));
        crc = _mm_crc32_u64(crc, word);
    }
    auto narrow = static_cast<std::uint32_t>(crc);
    for (; done < bytes.size(); ++done) {
        narrow = _mm_crc32_u8(narrow, std::to_integer<std::uint8_t>(bytes[done]));
    }
    return ~narrow;
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
#if defined(__x86_64__)
    static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
    if (has_instruction) {
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
