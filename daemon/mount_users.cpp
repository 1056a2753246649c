// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/mount_users.hpp"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace mirror::daemon {
namespace {

namespace fs = std::filesystem;

bool is_within(std::string_view path, const std::string& directory) {
    return path.starts_with(directory) &&
           (path.size() == directory.size() || path[directory.size()] == '/');
}

/// The link's target where it is below the directory.
std::optional<std::string> link_within(const fs::path& link, const std::string& directory) {
    std::error_code code;
    std::string target = fs::read_symlink(link, code).string();
    return !code && is_within(target, directory) ? std::optional(std::move(target)) : std::nullopt;
}

std::optional<std::string> open_file(const fs::path& process, const std::string& directory) {
    std::error_code code;
    for (fs::directory_iterator entry(process / "fd", code), end; !code && entry != end;
         entry.increment(code)) {
        if (auto target = link_within(entry->path(), directory)) {
            return target;
        }
    }
    return std::nullopt;
}

std::optional<std::string> mapped_file(const fs::path& process, const std::string& directory) {
    std::ifstream maps(process / "maps");
    for (std::string line; std::getline(maps, line);) {
        const std::size_t slash = line.find('/');
        if (slash != std::string::npos &&
            is_within(std::string_view(line).substr(slash), directory)) {
            return line.substr(slash);
        }
    }
    return std::nullopt;
}

/// Empty: it does not.
std::string how_it_uses(const fs::path& process, const std::string& directory) {
    if (link_within(process / "cwd", directory)) {
        return "working directory";
    }
    if (link_within(process / "root", directory)) {
        return "root directory";
    }
    if (link_within(process / "exe", directory)) {
        return "program";
    }
    if (const auto file = open_file(process, directory)) {
        return fmt::format("{} is open", *file);
    }
    if (const auto file = mapped_file(process, directory)) {
        return fmt::format("{} is mapped", *file);
    }
    return {};
}

std::string program_of(const fs::path& process) {
    std::ifstream file(process / "comm");
    std::string name;
    std::getline(file, name);
    return name.empty() ? "a process" : name;
}

}  // namespace

std::vector<MountUser> find_mount_users(const std::string& directory, const std::string& proc,
                                        MountUserLimits limits) {
    const auto deadline = std::chrono::steady_clock::now() + limits.time;
    std::vector<MountUser> users;
    std::error_code code;
    for (fs::directory_iterator entry(proc, code), end; !code && entry != end;
         entry.increment(code)) {
        const std::string name = entry->path().filename().string();
        pid_t pid = 0;
        const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (error != std::errc{} || stop != name.data() + name.size()) {
            continue;
        }
        if (users.size() >= limits.most || std::chrono::steady_clock::now() > deadline) {
            break;
        }
        if (std::string how = how_it_uses(entry->path(), directory); !how.empty()) {
            users.push_back({program_of(entry->path()), pid, std::move(how)});
        }
    }
    return users;
}

std::string words(const std::vector<MountUser>& users) {
    std::string text;
    for (const MountUser& user : users) {
        text += fmt::format("{}{} (pid {}, {})", text.empty() ? "" : ", ", user.program, user.pid,
                            user.how);
    }
    return text;
}

}  // namespace mirror::daemon
