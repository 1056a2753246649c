// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/run_dir_watch.hpp"

#include <unistd.h>

#include "core/base/log.hpp"
#include "daemon/boot.hpp"
#include "daemon/keepers.hpp"
#include "daemon/service.hpp"

namespace mirror::daemon {
namespace {

constexpr std::chrono::seconds period{2};

bool is_gone(const std::string& path) {
    return ::access(path.c_str(), F_OK) != 0 && errno == ENOENT;
}

}  // namespace

Result<void> RunDirWatch::start() {
    return periodic_.start("run-dir", period, [this] { look(); });
}

void RunDirWatch::stop() {
    periodic_.stop();
}

void RunDirWatch::look() {
    look_after_own_files();
    look_after_boot_marks();
    for (const auto& [name, keeper] : keepers_) {
        keeper->look_after_files();
    }
}

void RunDirWatch::look_after_own_files() {
    const std::string socket = context_.node.daemon_socket();
    // A file may come or go between two looks: the next one sees it.
    const bool is_socket_gone = is_gone(socket);
    if (!is_socket_gone && instance_.is_named()) {
        return;
    }
    auto restored = make_run_dir(context_.node).and_then([&] { return instance_.name_again(); });
    if (restored && is_socket_gone) {
        restored = listen_again_();
    }
    if (restored) {
        told_.clear();
        context_.events.record(
            {"run-dir-cleaned", Severity::warning, "",
             fmt::format("files of mirrord in {} had disappeared and were made again",
                         context_.node.run_dir),
             "a cleaner of temporary files, or rm",
             fmt::format("keep cleaners away from {}", context_.node.run_dir)});
    } else if (std::exchange(told_, restored.error().message) != restored.error().message) {
        log(LogLevel::error, "files of mirrord in {} are gone: {}", context_.node.run_dir,
            restored.error().text());
    }
}

/// Without its mark a role that somebody decided would be taken for one of a new boot.
void RunDirWatch::look_after_boot_marks() {
    for (const auto& [name, keeper] : keepers_) {
        if (is_boot_decided(context_.node, name)) {
            decided_.insert(name);
        } else if (decided_.contains(name)) {
            note_boot_decided(context_.node, name);
        }
    }
}

}  // namespace mirror::daemon
