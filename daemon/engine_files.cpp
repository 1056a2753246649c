// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/engine_files.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <unistd.h>

#include "core/base/log.hpp"
#include "core/base/put_file.hpp"

namespace mirror::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view no_name_left = " (deleted)";

/// The entries of a folder that may change meanwhile, or be closed to us: what can be seen of them.
std::vector<fs::path> entries_of(const fs::path& folder) {
    std::vector<fs::path> found;
    std::error_code failed;
    for (fs::directory_iterator at(folder, failed); !failed && at != fs::directory_iterator{};
         at.increment(failed)) {
        found.push_back(at->path());
    }
    return found;
}

/// The engine's descriptor of the socket that has this name, or had it.
std::optional<fs::path> descriptor_of(pid_t engine, const std::string& path) {
    for (const fs::path& fd : entries_of(fmt::format("/proc/{}/fd", engine))) {
        std::error_code failed;
        const std::string name = fs::read_symlink(fd, failed).string();
        if (name == path || name == path + std::string(no_name_left)) {
            return fd;
        }
    }
    return std::nullopt;
}

void restore_socket(const std::string& path, pid_t engine) {
    const auto fd = descriptor_of(engine, path);
    if (!fd) {
        return;
    }
    ::unlink(path.c_str());  // a link to nothing
    if (::symlink(fd->c_str(), path.c_str()) != 0) {
        log(LogLevel::warning, "{}", fail_errno(errno, path).value().text());
    }
}

}  // namespace

std::vector<std::string> missing_engine_files(const EnginePaths& paths) {
    std::vector<std::string> missing;
    for (const std::string* path : {&paths.socket, &paths.express, &paths.pid_file}) {
        if (::access(path->c_str(), F_OK) != 0 && errno == ENOENT) {
            missing.push_back(*path);
        }
    }
    return missing;
}

std::vector<std::string> restore_engine_files(const EnginePaths& paths, pid_t engine) {
    const std::string folder = fs::path(paths.socket).parent_path().string();
    if (auto made = make_folder(folder, 0755); !made) {
        log(LogLevel::warning, "{}", made.error().text());
    }
    for (const std::string& path : missing_engine_files(paths)) {
        if (path != paths.pid_file) {
            restore_socket(path, engine);
        } else if (auto put = put_file(path, fmt::format("{}\n", engine), 0644); !put) {
            log(LogLevel::warning, "{}", put.error().text());
        }
    }
    return missing_engine_files(paths);
}

}  // namespace mirror::daemon
