// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/backing_access.hpp"

#include <cerrno>
#include <filesystem>
#include <sys/stat.h>

#include "core/base/trusted_file.hpp"

namespace mirror::daemon {
namespace {

Result<void> require_no_others(const std::string& path, const struct stat& found) {
    const mode_t others = found.st_mode & (S_IRWXG | S_IRWXO);
    if (others == 0) {
        return {};
    }
    return Failure(
        Error{ErrorKind::refused,
              fmt::format("{} can be {} by others (mode {:04o}): anyone who can open it has the "
                          "whole disk, and can block its use with a lock",
                          path, (others & (S_IWGRP | S_IWOTH)) != 0 ? "read or written" : "read",
                          found.st_mode & 07777),
              fmt::format("run: chmod 600 {}", path)});
}

}  // namespace

Result<void> require_own_backing(const std::string& path) {
    struct stat found {};
    const bool exists = ::stat(path.c_str(), &found) == 0;
    if (exists && !S_ISREG(found.st_mode)) {
        return {};
    }
    if (exists) {
        if (auto ours = require_no_others(path, found); !ours) {
            return ours;
        }
    }
    const std::string judged = exists ? path : std::filesystem::path(path).parent_path().string();
    const auto trusted = require_trusted_path(judged);
    // What is not there yet is somebody else's to say.
    return trusted || trusted.error().kind == ErrorKind::not_found ? Result<void>()
                                                                   : Failure(trusted.error());
}

}  // namespace mirror::daemon
