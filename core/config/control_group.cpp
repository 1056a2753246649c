// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/control_group.hpp"

#include <cerrno>
#include <grp.h>
#include <vector>

namespace mirror {

Result<std::optional<gid_t>> find_control_group(const Config& config) {
    if (config.control_group.empty()) {
        return std::nullopt;
    }
    const std::string what =
        fmt::format("{}: control_group: '{}'", config.path, config.control_group);
    std::vector<char> names(4096);  // of the members, too
    while (true) {
        group entry{};
        group* found = nullptr;
        const int error =
            ::getgrnam_r(config.control_group.c_str(), &entry, names.data(), names.size(), &found);
        if (error == ERANGE) {
            names.resize(names.size() * 2);
            continue;
        }
        if (found != nullptr) {
            return found->gr_gid;
        }
        // getgrnam(3) lists four codes that mean no more than "not there".
        if (error != 0 && error != ENOENT && error != ESRCH && error != EBADF && error != EPERM) {
            return fail_errno(error, what);
        }
        return Failure(
            Error{ErrorKind::not_found, what + " is no group of this machine",
                  fmt::format("groupadd --system {}, or take the key out", config.control_group)});
    }
}

}  // namespace mirror
