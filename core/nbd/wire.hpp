// SPDX-License-Identifier: BSD-3-Clause
// Numbers and structures of the NBD protocol, after
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md; only what mirrord's server
// speaks: fixed newstyle, GO/INFO/LIST/EXPORT_NAME/ABORT, simple replies, structured replies with
// base:allocation. Everything on the wire is big-endian.
#pragma once

#include <cstdint>
#include <cstring>
#include <endian.h>
#include <span>

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

enum HandshakeFlag : std::uint16_t { fixed_newstyle = 1, no_zeroes = 2 };

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
    err_unknown = 0x80000006,
    err_too_big = 0x80000009,
};

enum class Info : std::uint16_t { export_info = 0, name = 1, description = 2, block_size = 3 };

enum TransmissionFlag : std::uint16_t {
    has_flags = 1 << 0,
    read_only = 1 << 1,
    send_flush = 1 << 2,
    send_fua = 1 << 3,
    rotational = 1 << 4,
    send_trim = 1 << 5,
    send_write_zeroes = 1 << 6,
    send_df = 1 << 7,
    can_multi_conn = 1 << 8,
    send_fast_zero = 1 << 11,
};

enum class Command : std::uint16_t {
    read = 0,
    write = 1,
    disconnect = 2,
    flush = 3,
    trim = 4,
    write_zeroes = 6,
    block_status = 7,
};

enum CommandFlag : std::uint16_t {
    fua = 1 << 0,
    no_hole = 1 << 1,
    df = 1 << 2,
    req_one = 1 << 3,
    fast_zero = 1 << 4
};

enum class ReplyType : std::uint16_t {
    none = 0,
    offset_data = 1,
    offset_hole = 2,
    block_status = 5,
    error = 0x8001,
    error_offset = 0x8002,
};

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

struct [[gnu::packed]] Request {
    std::uint32_t magic;
    std::uint16_t flags;
    std::uint16_t type;
    std::uint64_t cookie;
    std::uint64_t offset;
    std::uint32_t length;
};
static_assert(sizeof(Request) == 28);

struct [[gnu::packed]] SimpleReply {
    std::uint32_t magic;
    std::uint32_t error;
    std::uint64_t cookie;
};
static_assert(sizeof(SimpleReply) == 16);

}  // namespace mirror::nbd
