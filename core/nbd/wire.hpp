// SPDX-License-Identifier: BSD-3-Clause
// Numbers and structures of the NBD protocol, after
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md; only what mirrord's server
// speaks: fixed newstyle, GO/INFO/LIST/EXPORT_NAME/ABORT, simple replies, structured replies with
// base:allocation. Everything on the wire is big-endian. Values; any thread.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/base/units.hpp"

namespace mirror::nbd {

inline constexpr std::uint64_t init_magic = 0x4e42444d41474943;    // "NBDMAGIC"
inline constexpr std::uint64_t option_magic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr std::uint64_t option_reply_magic = 0x3e889045565a9;
inline constexpr std::uint32_t request_magic = 0x25609513;
inline constexpr std::uint32_t simple_reply_magic = 0x67446698;
inline constexpr std::uint32_t structured_reply_magic = 0x668e33ef;

/// The largest payload of one request that NBD peers may count on (proto.md, "Block sizes").
inline constexpr std::uint64_t max_payload = 32 * MiB;
/// The longest name of an export (proto.md, "String values").
inline constexpr std::size_t max_name = 4096;

namespace handshake_flag {
inline constexpr std::uint16_t fixed_newstyle = 1 << 0;
inline constexpr std::uint16_t no_zeroes = 1 << 1;
}  // namespace handshake_flag

enum class Option : std::uint32_t {
    export_name = 1,
    abort = 2,
    list = 3,
    starttls = 5,
    info = 6,
    go = 7,
    structured_reply = 8,
    list_meta_context = 9,
    set_meta_context = 10,
};

enum class OptionReply : std::uint32_t {
    ack = 1,
    server = 2,
    info = 3,
    meta_context = 4,
    err_unsupported = 0x80000001,
    err_policy = 0x80000002,
    err_invalid = 0x80000003,
    err_tls_required = 0x80000005,
    err_unknown = 0x80000006,
    err_too_big = 0x80000009,
};

enum class Info : std::uint16_t { export_info = 0, name = 1, description = 2, block_size = 3 };

namespace transmission_flag {
inline constexpr std::uint16_t has_flags = 1 << 0;
inline constexpr std::uint16_t read_only = 1 << 1;
inline constexpr std::uint16_t send_flush = 1 << 2;
inline constexpr std::uint16_t send_fua = 1 << 3;
inline constexpr std::uint16_t send_trim = 1 << 5;
inline constexpr std::uint16_t send_write_zeroes = 1 << 6;
inline constexpr std::uint16_t send_df = 1 << 7;
inline constexpr std::uint16_t can_multi_conn = 1 << 8;
}  // namespace transmission_flag

enum class Command : std::uint16_t {
    read = 0,
    write = 1,
    disconnect = 2,
    flush = 3,
    trim = 4,
    write_zeroes = 6,
    block_status = 7,
};

namespace command_flag {
inline constexpr unsigned fua = 1 << 0;
inline constexpr unsigned no_hole = 1 << 1;
inline constexpr unsigned df = 1 << 2;
inline constexpr unsigned req_one = 1 << 3;
}  // namespace command_flag

enum class ReplyType : std::uint16_t {
    none = 0,
    offset_data = 1,
    block_status = 5,
    error = 0x8001,
};
/// The flag of a structured reply's last chunk.
inline constexpr std::uint16_t reply_done = 1;

/// base:allocation's states.
inline constexpr std::uint32_t state_hole = 1;
inline constexpr std::uint32_t state_zero = 2;

/// Error numbers on the wire (they are Linux's, on every system).
enum class WireError : std::uint32_t {
    none = 0,
    perm = 1,
    io = 5,
    nomem = 12,
    inval = 22,
    nospc = 28,
    overflow = 75,
    notsup = 95,
    shutdown = 108,
};

/// Converts between the machine's byte order and the wire's; its own inverse.
template <std::unsigned_integral T>
[[nodiscard]] constexpr T big_endian(T value) noexcept {
    if constexpr (std::endian::native == std::endian::big || sizeof(T) == 1) {
        return value;
    } else if constexpr (sizeof(T) == 2) {
        return __builtin_bswap16(value);
    } else if constexpr (sizeof(T) == 4) {
        return __builtin_bswap32(value);
    } else {
        static_assert(sizeof(T) == 8);
        return __builtin_bswap64(value);
    }
}

template <std::unsigned_integral T>
[[nodiscard]] T load_be(const std::byte* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof(T));
    return big_endian(value);
}

/// Returns the place behind what was stored.
template <std::unsigned_integral T>
std::byte* store_be(std::byte* to, T value) noexcept {
    value = big_endian(value);
    std::memcpy(to, &value, sizeof(T));
    return to + sizeof(T);
}

/// A request's header without its magic, in the machine's byte order.
struct Request {
    static constexpr std::size_t wire_size = 28;

    std::uint16_t flags = 0;
    std::uint16_t type = 0;
    std::uint64_t cookie = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;

    /// From wire_size bytes whose first four are the magic.
    [[nodiscard]] static Request load(const std::byte* from) noexcept {
        return {load_be<std::uint16_t>(from + 4), load_be<std::uint16_t>(from + 6),
                load_be<std::uint64_t>(from + 8), load_be<std::uint64_t>(from + 16),
                load_be<std::uint32_t>(from + 24)};
    }
    [[nodiscard]] ByteRange range() const noexcept { return {offset, length}; }
};

inline constexpr std::size_t simple_reply_size = 16;
/// Without the chunk's payload.
inline constexpr std::size_t structured_reply_size = 20;

}  // namespace mirror::nbd
