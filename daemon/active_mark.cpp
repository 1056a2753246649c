// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/active_mark.hpp"

#include <fstream>
#include <sstream>

#include "core/base/put_file.hpp"
#include "core/base/trusted_file.hpp"

namespace mirror::daemon {
namespace {

constexpr std::string_view waiting = "waits for the peer";

}  // namespace

std::string boot_id() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string line;
    std::getline(file, line);
    return line;
}

ActiveMark read_active_mark(const std::string& path, const std::string& boot) {
    const auto text = read_own_file(path, longest_mark);
    if (!text) {
        return {};
    }
    std::istringstream file(*text);
    std::string id;
    std::string purpose;
    const bool is_whole = static_cast<bool>(std::getline(file, id));
    std::getline(file, purpose);
    return {.is_there = true,
            .of_this_boot = is_whole && id == boot,
            .waits_for_peer = purpose == waiting};
}

Result<void> write_active_mark(const std::string& path, const std::string& boot,
                               bool waits_for_peer) {
    const std::string purpose = waits_for_peer ? fmt::format("{}\n", waiting) : std::string();
    return put_file(path, fmt::format("{}\n{}", boot, purpose), 0644);
}

}  // namespace mirror::daemon
