// SPDX-License-Identifier: BSD-3-Clause
#include "core/undo/undo_folder.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <string_view>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/trusted_file.hpp"

namespace mirror {
namespace {

constexpr std::string_view prefix = "undo-";
constexpr std::string_view unfinished = ".part";

std::optional<std::uint64_t> number_of(std::string_view name) {
    if (!name.starts_with(prefix)) {
        return std::nullopt;
    }
    name.remove_prefix(prefix.size());
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc{} || end != name.data() + name.size() || number == 0) {
        return std::nullopt;
    }
    return number;
}

UndoEntry look_at(std::uint64_t id, std::string path) {
    constexpr std::uint64_t stat_block = 512;
    UndoEntry entry;
    entry.id = id;
    entry.path = std::move(path);
    struct stat info {};
    if (::stat(entry.path.c_str(), &info) == 0) {
        entry.file_bytes = static_cast<std::uint64_t>(info.st_blocks) * stat_block;
    }
    const auto file = UndoFile::open(entry.path);
    if (!file) {
        entry.problem = file.error().message;
        return entry;
    }
    entry.info = file->info();
    entry.saved_bytes = file->saved_bytes();
    entry.runs = file->runs();
    return entry;
}

}  // namespace

Result<std::vector<std::string>> UndoFolder::names() const {
    std::vector<std::string> found;
    std::error_code failed;
    std::filesystem::directory_iterator at(path_, failed);
    while (!failed && at != std::filesystem::directory_iterator{}) {
        found.push_back(at->path().filename().string());
        at.increment(failed);
    }
    if (failed && failed != std::errc::no_such_file_or_directory) {
        return fail_errno(failed.value(), path_);
    }
    return found;
}

Result<std::vector<UndoEntry>> UndoFolder::list() const {
    const auto found = names();
    if (!found) {
        return Failure(found.error());
    }
    std::vector<UndoEntry> entries;
    for (const std::string& name : *found) {
        if (const auto id = number_of(name)) {
            entries.push_back(look_at(*id, path_of(*id)));
        }
    }
    std::sort(entries.begin(), entries.end(),
              [](const UndoEntry& a, const UndoEntry& b) { return a.id < b.id; });
    return entries;
}

std::string UndoFolder::path_of(std::uint64_t id) const {
    return fmt::format("{}/{}{}", path_, prefix, id);
}

Result<std::uint64_t> UndoFolder::next_id() const {
    return names().map([](const std::vector<std::string>& found) {
        std::uint64_t highest = 0;
        for (const std::string& name : found) {
            highest = std::max(highest, number_of(name).value_or(0));
        }
        return highest + 1;
    });
}

Result<void> UndoFolder::drop(std::uint64_t id) const {
    const std::string path = path_of(id);
    if (::unlink(path.c_str()) != 0) {
        return fail_errno(errno, path);
    }
    return sync_folder(path_);
}

void UndoFolder::remove_unfinished() const {
    for (const std::string& name : names().value_or(std::vector<std::string>{})) {
        if (name.starts_with(prefix) && name.ends_with(unfinished)) {
            ::unlink((path_ + "/" + name).c_str());
        }
    }
}

Result<std::uint64_t> UndoFolder::free_bytes() const {
    struct statvfs info {};
    if (::statvfs(path_.c_str(), &info) != 0) {
        return fail_errno(errno, path_);
    }
    return std::uint64_t{info.f_bavail} * info.f_frsize;
}

}  // namespace mirror
