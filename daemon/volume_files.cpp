// SPDX-License-Identifier: BSD-3-Clause
// VolumeKeeper: the files of its engine in RUN_DIR, when somebody removed them under it.
#include <filesystem>

#include "core/base/log.hpp"
#include "daemon/active_mark.hpp"
#include "daemon/engine_files.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {
namespace {

bool is_marked(const std::string& marker) {
    return read_active_mark(marker, boot_id()).is_there;
}

bool is_link(const std::string& path) {
    std::error_code ignored;
    return std::filesystem::is_symlink(path, ignored);
}

}  // namespace

void VolumeKeeper::look_after_files() {
    if (!is_served()) {
        return;
    }
    const auto missing = missing_engine_files(paths_);
    if (is_marked(paths_.marker)) {
        MutexLock lock(mutex_);
        if (missing == files_left_) {
            return;  // nothing, or what was reported
        }
    }
    // The engine may be started or ended at this moment: then its files come and go.
    if (const auto operation = begin("a look at its files")) {
        restore_files(*operation);
    }
}

void VolumeKeeper::restore_files(const Operation&) {
    pid_t pid = 0;
    {
        MutexLock lock(mutex_);
        if (place_ != Place::active || !engine_ || !engine_->is_running()) {
            return;
        }
        pid = engine_->pid();
    }
    const bool is_whole = missing_engine_files(paths_).empty() && is_marked(paths_.marker);
    auto left = is_whole ? std::vector<std::string>() : restore_engine_files(paths_, pid);
    Result<void> marked;
    if (!is_marked(paths_.marker)) {
        marked = write_marker();
    }
    {
        MutexLock lock(mutex_);
        files_left_ = left;
    }
    if (is_whole) {
        return;
    }
    record_lost_files(pid, left, marked);
}

void VolumeKeeper::record_lost_files(pid_t engine, const std::vector<std::string>& left,
                                     const Result<void>& marked) {
    const std::string cause = "a cleaner of temporary files, or rm";
    if (!marked) {
        log(LogLevel::error, "{}: {}", name(), marked.error().text());
    }
    const bool by_links = is_link(paths_.socket) || is_link(paths_.express);
    const std::string then =
        by_links ? fmt::format(
                       "; then mirrorctl restart-engine {}: until then its sockets are "
                       "links, for the user of mirrord alone",
                       name())
                 : std::string();
    if (left.empty()) {
        record("run-dir-cleaned", Severity::warning,
               fmt::format("the files of {} in {} disappeared while its engine (process {}) served "
                           "it; they were made again",
                           name(), context_.node.run_dir, engine),
               cause, fmt::format("keep cleaners away from {}{}", context_.node.run_dir, then));
        return;
    }
    record("run-dir-cleaned", Severity::error,
           fmt::format("the engine of {} (process {}) serves, but {} is gone", name(), engine,
                       fmt::join(left, ", ")),
           cause,
           fmt::format("end the process {}: mirrord starts the engine again at once", engine));
}

}  // namespace mirror::daemon
