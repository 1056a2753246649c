// SPDX-License-Identifier: BSD-3-Clause
// What both servers (a thread a connection, and the loop) must say alike: which requests are valid
// for an export, and how replies look on the wire. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/nbd/buffers.hpp"
#include "core/nbd/handshake.hpp"
#include "core/nbd/wire.hpp"
#include "core/store/store.hpp"

namespace mirror::nbd {

/// WireError::none for a request that may be served.
[[nodiscard]] WireError check_request(const Request& request, const Negotiated& with) noexcept;
/// What no write of this export can be longer than is not received first and refused then: it would
/// only fill memory. Small ones are answered in any case.
[[nodiscard]] std::uint64_t payload_limit(const Traits& traits) noexcept;
/// The part of a BLOCK_STATUS request that is looked at; a reply may cover less than was asked.
[[nodiscard]] ByteRange status_range(const Request& request) noexcept;

[[nodiscard]] WireError wire_error(const Result<void>& result) noexcept;

void append_simple_reply(ReplyBuffer& to, std::uint64_t cookie, WireError error);
/// A simple one where nothing else was negotiated.
void append_error_reply(ReplyBuffer& to, const Request& request, bool structured, WireError error,
                        std::string_view text);
/// Room for a read's data; the header before it is written by fill_read_header, when they are there
/// (and taken back with truncate() when they can't be had).
[[nodiscard]] std::span<std::byte> append_read_reply(ReplyBuffer& to, const Request& request,
                                                     bool structured);
void fill_read_header(std::span<std::byte> data, const Request& request, bool structured) noexcept;
/// False when `extents` say nothing of the request's beginning.
[[nodiscard]] bool append_status_reply(ReplyBuffer& to, const Request& request,
                                       const std::vector<Extent>& extents);

}  // namespace mirror::nbd
