// SPDX-License-Identifier: BSD-3-Clause
// The process that serves an active volume: nbdkit with the mirror plugin, in a session of its own
// so that it outlives mirrord. A restarted mirrord finds it and adopts it. Death is
// watched through a pidfd, which works for both and is safe against reused pids.
// An object may be looked at from any thread; kill_and_wait from one at a time.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/config/config.hpp"

namespace mirror::daemon {

/// Where the files of one volume's engine are.
struct EnginePaths {
    std::string socket;      ///< the volume as NBD, and the engine's control requests
    std::string express;     ///< the volume as NBD, by the engine's own server
    std::string pid_file;    ///< written by nbdkit when it serves
    std::string error_file;  ///< why the plugin did not start, a sentence
    std::string marker;      ///< made at promotion, gone at demote and at reboot
    std::string settings;    ///< what the engine is given as its configuration; as long as marker

    [[nodiscard]] static EnginePaths of(const NodeConfig& node, const std::string& volume);
    /// For the kernel's client: the express door, unless the engine is an older one without it,
    /// which outlived its mirrord.
    [[nodiscard]] const std::string& device_socket() const noexcept;
};

struct EngineCommand {
    std::string volume;
    std::string node;
    std::string config;  ///< TOML: what is in force, whatever the configuration file says by now
    EnginePaths paths;
};

class EngineProcess {
  public:
    /// Starts it and returns at once. Stale socket and pid files are removed first.
    [[nodiscard]] static Result<std::shared_ptr<EngineProcess>> spawn(const EngineCommand& command);
    /// The engine that an earlier mirrord left running; null when there is none. Found by its
    /// command line where its pid file is lost.
    [[nodiscard]] static std::shared_ptr<EngineProcess> adopt(const EnginePaths& paths,
                                                              const std::string& node);

    ~EngineProcess();  ///< lets it run
    EngineProcess(const EngineProcess&) = delete;
    EngineProcess& operator=(const EngineProcess&) = delete;

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// Readable when the process is dead.
    [[nodiscard]] int death_fd() const noexcept { return pidfd_.get(); }
    [[nodiscard]] bool is_running() const noexcept;
    /// Waits for death; false when it still runs at the deadline.
    [[nodiscard]] bool wait_dead(std::chrono::milliseconds timeout) const noexcept;
    /// SIGKILL. Only after `quiesce`, or when the process can't be asked: nothing durable depends
    /// on a clean end.
    [[nodiscard]] Result<void> kill_and_wait(
        std::chrono::seconds patience = std::chrono::seconds(20));
    /// "exit status 1", "signal 9"; "unknown" for an adopted one. Reaps: call it after death.
    [[nodiscard]] std::string end_reason();

  private:
    [[nodiscard]] static std::shared_ptr<EngineProcess> adopt_process(pid_t process,
                                                                      const EnginePaths& paths,
                                                                      const std::string& node);
    EngineProcess(pid_t pid, Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

    const pid_t pid_;
    const Fd pidfd_;
};

/// What the plugin wrote into its error file; nothing when there is none.
[[nodiscard]] std::optional<std::string> read_engine_error(const EnginePaths& paths);
/// Whether nbdkit has written its pid file: it serves.
[[nodiscard]] bool has_pid_file(const EnginePaths& paths, pid_t pid);
/// Removes what a dead engine left: sockets and pid file. What it was given stays, as the record of
/// what is in use.
void remove_engine_files(const EnginePaths& paths) noexcept;

/// nbdkit and the plugin, as they would be started; for `check`.
[[nodiscard]] std::string nbdkit_program();
[[nodiscard]] std::string plugin_path();
/// Whether an engine could be started on this node: asked before anything ends that serves.
[[nodiscard]] Result<void> require_engine_programs(const std::string& node);

}  // namespace mirror::daemon
