// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/socket_access.hpp"

#include <cerrno>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace mirror {

Result<gid_t> find_group(const std::string& name) {
    std::vector<char> memory(4096);  // for the members, too
    while (true) {
        group entry{};
        group* found = nullptr;
        const int error = ::getgrnam_r(name.c_str(), &entry, memory.data(), memory.size(), &found);
        if (error == ERANGE) {
            memory.resize(memory.size() * 2);
            continue;
        }
        if (found != nullptr) {
            return entry.gr_gid;
        }
        // getgrnam(3) lists four codes that mean no more than "not there".
        if (error != 0 && error != ENOENT && error != ESRCH && error != EBADF && error != EPERM) {
            return fail_errno(error, fmt::format("looking for the group {}", name));
        }
        return Failure(
            Error{ErrorKind::not_found, fmt::format("there is no group {} here", name),
                  fmt::format("make it (groupadd --system {}), or name another one", name)});
    }
}

Result<void> open_socket_to(const std::string& path, const std::string& group) {
    constexpr mode_t for_owner = 0600;
    constexpr mode_t for_group = 0660;
    if (::chmod(path.c_str(), for_owner) != 0) {
        return fail_errno(errno, fmt::format("setting the mode of {}", path));
    }
    if (group.empty()) {
        return {};
    }
    const auto id = find_group(group);
    if (!id) {
        return Failure(id.error());
    }
    // In this order, so that no other group may write it meanwhile.
    if (::lchown(path.c_str(), static_cast<uid_t>(-1), *id) != 0) {
        Failure failure = fail_errno(errno, fmt::format("giving {} to the group {}", path, group));
        failure.value().remedy =
            fmt::format("without root the owner must be a member of {}", group);
        return failure;
    }
    if (::chmod(path.c_str(), for_group) != 0) {
        return fail_errno(errno, fmt::format("setting the mode of {}", path));
    }
    return {};
}

}  // namespace mirror
