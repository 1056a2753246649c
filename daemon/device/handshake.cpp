// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/device/handshake.hpp"

#include "core/nbd/dial.hpp"
#include "core/nbd/wire.hpp"

namespace mirror::daemon {
namespace {

constexpr std::chrono::seconds handshake_deadline{5};

/// Of what the server says, this is for the kernel: it uses no structured replies, whatever else
/// it may make of a flag some day.
std::uint64_t flags_for_kernel(std::uint16_t flags) noexcept {
    namespace flag = nbd::transmission_flag;
    return flags & (flag::has_flags | flag::read_only | flag::send_flush | flag::send_fua |
                    flag::send_trim | flag::send_write_zeroes | flag::can_multi_conn);
}

}  // namespace

Result<EngineConnections> NbdDialler::dial(const std::string& socket, const std::string& volume,
                                           unsigned count) {
    EngineConnections result;
    nbd::LinkOptions options;
    options.connect_timeout = handshake_deadline;
    for (unsigned number = 0; number < count; ++number) {
        // Simple replies, the only ones that the kernel knows.
        auto opened = nbd::open_export(nbd::Address{{}, socket}, volume, options);
        if (!opened) {
            return Failure(opened.error());
        }
        result.size = opened->facts.size;
        result.flags = flags_for_kernel(opened->facts.flags);
        result.sockets.push_back(std::move(opened->socket));
    }
    return result;
}

}  // namespace mirror::daemon
