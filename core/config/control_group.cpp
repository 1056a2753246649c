// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/control_group.hpp"

#include "core/base/socket_access.hpp"

namespace mirror {

Result<std::optional<gid_t>> find_control_group(const Config& config) {
    const std::string& name = config.control_group;
    if (name.empty()) {
        return std::nullopt;
    }
    const auto found = find_group(name);
    if (found) {
        return *found;
    }
    const std::string key = fmt::format("{}: control_group", config.path);
    if (found.error().kind != ErrorKind::not_found) {
        return Failure(found.error().within(key));
    }
    return Failure(Error{ErrorKind::not_found,
                         fmt::format("{}: '{}' is not a group on this machine", key, name),
                         fmt::format("groupadd --system {}, or remove the key", name)});
}

}  // namespace mirror
