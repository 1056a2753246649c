// SPDX-License-Identifier: BSD-3-Clause
// What both ends of a link set on their TCP sockets, so that the kernel notices a peer that went
// without a word (power cut, pulled cable, a handshake that only one side knows of), whatever the
// programs wait for. Called by who dials and by who accepts, each from its own thread.
//
// A sign of life is anything that the peer's kernel sends, an acknowledgement too: a program that
// is slow or stopped is no dead machine. The limits of single commands are the link's own affair.
#pragma once

#include <algorithm>
#include <chrono>

namespace mirror::nbd {

/// A virtual machine that is moved or saved stands still for seconds; that alone ends nothing.
inline constexpr std::chrono::milliseconds least_silence{20000};

/// For connections that speak of volumes with this peer_timeout. Never shorter than that: a link
/// that ends, ends the mirror.
[[nodiscard]] constexpr std::chrono::milliseconds silence_for(
    std::chrono::milliseconds peer_timeout) noexcept {
    return std::max(peer_timeout, least_silence);
}

/// On TCP: no delay, and the connection fails (ETIMEDOUT) when the peer gave no sign of life for
/// `silence`, whether data is under way or not. On other sockets nothing. That one of these can't
/// be set is no reason to do without the connection.
void set_tcp_options(int socket, std::chrono::milliseconds silence) noexcept;

/// On TCP, until set_tcp_options(): an idle connection is looked after every second. For one that
/// waits for a greeting: where the peer's kernel knows nothing of it, it says so when asked.
void probe_often(int socket) noexcept;

}  // namespace mirror::nbd
