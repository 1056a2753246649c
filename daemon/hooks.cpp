// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/hooks.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <sys/stat.h>

#include "core/base/trusted_file.hpp"
#include "daemon/child.hpp"

namespace mirror::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view name_letters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
/// What editors and package managers leave beside a file.
constexpr std::array<std::string_view, 14> backup_endings{
    ".bak",     ".old",    ".orig",    ".save",    ".swp",      ".tmp",       ".disabled",
    ".example", ".rpmnew", ".rpmsave", ".rpmorig", ".dpkg-old", ".dpkg-dist", ".dpkg-new"};

bool is_hook_name(const std::string& name) {
    if (name.starts_with('.') || name.find_first_not_of(name_letters) != std::string::npos) {
        return false;
    }
    return std::none_of(backup_endings.begin(), backup_endings.end(),
                        [&](std::string_view ending) { return name.ends_with(ending); });
}

bool may_refuse(Occasion occasion) {
    return occasion == Occasion::before_demote || occasion == Occasion::before_promote;
}

std::string summary(const HookOutcome& outcome) {
    return fmt::format("hook {} ({}) failed: {}{}{}", outcome.name, to_string(outcome.occasion),
                       outcome.how, outcome.output.empty() ? "" : ": ", outcome.output);
}

}  // namespace

std::string_view to_string(Occasion occasion) noexcept {
    switch (occasion) {
        case Occasion::before_demote:
            return "before-demote";
        case Occasion::demote_cancelled:
            return "demote-cancelled";
        case Occasion::after_demote:
            return "after-demote";
        case Occasion::before_promote:
            return "before-promote";
        case Occasion::promote_cancelled:
            return "promote-cancelled";
        case Occasion::after_promote:
            break;
    }
    return "after-promote";
}

std::string hook_folder(const std::string& config_path) {
    return (fs::path(config_path).parent_path() / "hooks.d").string();
}

HookFolder list_hooks(const std::string& folder) {
    HookFolder result;
    struct stat found {};
    if (::lstat(folder.c_str(), &found) != 0) {
        if (errno != ENOENT) {
            result.problems.push_back(fail_errno(errno, folder).value().message);
        }
        return result;
    }
    // Whoever may change what is on the way to a hook decides what root runs.
    if (const auto trusted = require_trusted_path(folder, LastLink::refused); !trusted) {
        result.problems.push_back(fmt::format("{}: nothing in it is run; {}",
                                              trusted.error().message, trusted.error().remedy));
        return result;
    }
    std::error_code code;
    for (fs::directory_iterator entry(folder, code), end; !code && entry != end;
         entry.increment(code)) {
        const std::string path = entry->path().string();
        if (!is_hook_name(entry->path().filename().string()) || ::stat(path.c_str(), &found) != 0 ||
            !S_ISREG(found.st_mode) || (found.st_mode & S_IXUSR) == 0) {
            continue;
        }
        if (const auto trusted = require_trusted_path(path); !trusted) {
            result.problems.push_back(fmt::format("{}: it is not run; {}", trusted.error().message,
                                                  trusted.error().remedy));
        } else {
            result.hooks.push_back(path);
        }
    }
    if (code) {
        result.problems.push_back(fmt::format("{}: {}", folder, code.message()));
    }
    std::sort(result.hooks.begin(), result.hooks.end());
    std::sort(result.problems.begin(), result.problems.end());
    return result;
}

HookOutcome HookRunner::run_one(const std::string& path, Occasion occasion) const {
    HookOutcome outcome{fs::path(path).filename().string(), occasion};
    std::vector<std::string> environment = clean_environment();
    const std::string word(to_string(occasion));
    for (const auto& [name, value] :
         std::initializer_list<std::pair<const char*, const std::string&>>{
             {"OCCASION", word},
             {"REASON", facts_.reason},
             {"VOLUME", facts_.volume},
             {"NODE", facts_.node},
             {"PEER", facts_.peer},
             {"DEVICE", facts_.device},
             {"SOCKET", facts_.socket},
             {"MOUNT", facts_.mount},
             {"CONFIG", facts_.config}}) {
        environment.push_back(fmt::format("MIRRORDISK_{}={}", name, value));
    }
    const auto begin = std::chrono::steady_clock::now();
    const auto end = run_child({path, word}, environment, limit_);
    outcome.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (!end) {
        outcome.how = end.error().message;
        return outcome;
    }
    outcome.succeeded = end->succeeded();
    outcome.how = end->words(limit_);
    outcome.output = end->last_words();
    return outcome;
}

Result<void> HookRunner::run(Occasion occasion) {
    const HookFolder found = list_hooks(folder_);
    for (const std::string& problem : found.problems) {
        problems_(problem);
    }
    std::string failures;
    for (const std::string& path : found.hooks) {
        has_run_any_ = true;
        const HookOutcome outcome = run_one(path, occasion);
        recorder_(outcome);
        if (outcome.succeeded) {
            continue;
        }
        failures += (failures.empty() ? "" : "; ") + summary(outcome);
        if (may_refuse(occasion)) {
            break;
        }
    }
    if (failures.empty()) {
        return {};
    }
    return Failure(Error{may_refuse(occasion) ? ErrorKind::refused : ErrorKind::io, failures,
                         fmt::format("see {}", folder_)});
}

}  // namespace mirror::daemon
