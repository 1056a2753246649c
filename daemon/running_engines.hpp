// SPDX-License-Identifier: BSD-3-Clause
// The engines that run on this machine, found by their command lines: what a lost pid file, a
// volume that was taken out of the configuration or another RUN_DIR would hide. Any thread.
#pragma once

#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace mirror::daemon {

/// A file of a process, below /proc; nothing when it can't be read. Not by a stream: the process
/// may end between open and read, and streams throw then.
[[nodiscard]] std::optional<std::string> read_process_file(const std::string& path);

struct RunningEngine {
    pid_t pid = 0;
    std::string volume;
    std::string node;
    std::string socket;  ///< its directory is the RUN_DIR that it was started in
    std::string config;  ///< what it was given as its configuration

    [[nodiscard]] std::string run_dir() const;
    /// Where mirrord keeps what it gave to this engine; an engine that a person started, or an
    /// earlier version, reads something else.
    [[nodiscard]] bool was_given_its_settings() const;
};

/// Of all nodes whose engines run on this machine as the user that we are: anybody can give a
/// process of his these words, and what an engine was given is believed. `proc` is /proc but in
/// tests.
[[nodiscard]] std::vector<RunningEngine> find_engines(const std::string& proc = "/proc");
/// The one that serves there.
[[nodiscard]] std::optional<RunningEngine> engine_at(const std::string& socket);

}  // namespace mirror::daemon
