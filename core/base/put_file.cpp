// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/put_file.hpp"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/fd.hpp"

namespace mirror {
namespace {

Result<void> write_all(int fd, std::string_view content, const std::string& path) {
    while (!content.empty()) {
        const ssize_t written = ::write(fd, content.data(), content.size());
        if (written < 0 && errno != EINTR) {
            return fail_errno(errno, path);
        }
        content.remove_prefix(written > 0 ? static_cast<std::size_t>(written) : 0);
    }
    return {};
}

}  // namespace

Result<void> put_file(const std::string& path, std::string_view content, mode_t mode) {
    const std::string fresh = path + ".new";
    const Fd file(
        ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!file.is_open() || ::fchmod(file.get(), mode) != 0) {
        return fail_errno(errno, fresh);
    }
    auto put = write_all(file.get(), content, fresh);
    if (put && ::rename(fresh.c_str(), path.c_str()) != 0) {
        put = fail_errno(errno, path);
    }
    if (!put) {
        ::unlink(fresh.c_str());
    }
    return put;
}

Result<void> make_folder(const std::string& path, mode_t mode) {
    const std::filesystem::path whole(path);
    std::filesystem::path above;
    for (const auto& part : whole.parent_path()) {
        above /= part;
        if (::mkdir(above.c_str(), 0755) != 0 && errno != EEXIST &&
            ::access(above.c_str(), F_OK) != 0) {
            return fail_errno(errno, fmt::format("making the directory {}", above.string()));
        }
    }
    if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
        return fail_errno(errno, fmt::format("making the directory {}", path));
    }
    return {};
}

}  // namespace mirror
