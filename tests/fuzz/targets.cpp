// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <array>

#include "target.hpp"

namespace mirror::fuzz {
namespace {

constexpr std::array all{
    Target{"answers", answers},
    Target{"change_map", change_map},
    Target{"client_handshake", client_handshake},
    Target{"config", config},
    Target{"control_reply", control_reply},
    Target{"control_request", control_request},
    Target{"frames", frames},
    Target{"link", link},
    Target{"loop_client", loop_client},
    Target{"metadata", metadata},
    Target{"nbd_server", nbd_server},
    Target{"peer_requests", peer_requests},
    Target{"psk_file", psk_file},
    Target{"small_files", small_files},
    Target{"status_view", status_view},
    Target{"superblock", superblock},
    Target{"tls_server", tls_server},
    Target{"undo_file", undo_file},
    Target{"verify_record", verify_record},
};

}  // namespace

std::span<const Target> targets() noexcept {
    return all;
}

const Target* find_target(std::string_view name) noexcept {
    const auto* found =
        std::find_if(all.begin(), all.end(), [&](const Target& each) { return each.name == name; });
    return found == all.end() ? nullptr : found;
}

}  // namespace mirror::fuzz
