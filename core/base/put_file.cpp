// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/put_file.hpp"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/trusted_file.hpp"

namespace mirror {

Result<void> put_file(const std::string& path, std::string_view content, mode_t mode) {
    const std::string fresh = path + ".new";
    const auto file = make_own_file(fresh, mode);
    if (!file) {
        return Failure(file.error());
    }
    auto put = write_all_to(file->get(), content, fresh);
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
    const bool is_new = ::mkdir(path.c_str(), mode) == 0;
    if ((!is_new && errno != EEXIST) || (is_new && ::chmod(path.c_str(), mode) != 0)) {
        return fail_errno(errno, fmt::format("making the directory {}", path));
    }
    return {};
}

}  // namespace mirror
