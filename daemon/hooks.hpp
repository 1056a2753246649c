// SPDX-License-Identifier: BSD-3-Clause
// hooks.d beside the configuration: programs of the administrator that are run around a change of
// role. Called from the thread that changes the role; waits for each hook, up to its time limit.
// What happened is told to a recorder, one call a hook that was run.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"

namespace mirror::daemon {

enum class Occasion {
    before_demote,     ///< may refuse
    demote_cancelled,  ///< the demotion was not carried out after all
    after_demote,
    before_promote,     ///< may refuse
    promote_cancelled,  ///< the promotion was not carried out after all
    after_promote,
};
[[nodiscard]] std::string_view to_string(Occasion occasion) noexcept;

/// What a hook is told, as MIRRORDISK_VOLUME and so on.
struct HookFacts {
    std::string volume;
    std::string node;
    std::string peer;
    std::string device;  ///< empty: none
    std::string socket;
    std::string mount;   ///< empty: none is configured
    std::string reason;  ///< "promote", "demote", "switch", "resolve", "shutdown", "boot"
    std::string config;  ///< its path, so that mirrorctl works in a hook
};

struct HookFolder {
    std::vector<std::string> hooks;     ///< paths, in the order of their names
    std::vector<std::string> problems;  ///< what is not run, though it looks as if it should
};

/// What would be run. No folder: nothing, and no problem.
[[nodiscard]] HookFolder list_hooks(const std::string& folder);

/// The folder that belongs to a configuration file.
[[nodiscard]] std::string hook_folder(const std::string& config_path);

struct HookOutcome {
    std::string name;
    Occasion occasion{};
    bool succeeded = false;
    std::string how;     ///< "exit status 1"
    std::string output;  ///< its last lines, in one
    double seconds = 0;
};

class HookRunner {
  public:
    using Recorder = std::function<void(const HookOutcome&)>;
    using ProblemRecorder = std::function<void(const std::string&)>;

    HookRunner(std::string folder, HookFacts facts, std::chrono::milliseconds limit,
               Recorder recorder, ProblemRecorder problems)
        : folder_(std::move(folder)),
          facts_(std::move(facts)),
          limit_(limit),
          recorder_(std::move(recorder)),
          problems_(std::move(problems)) {}

    /// Runs them all. Where the occasion may refuse, the first that fails is the last: `refused`,
    /// with its words. Elsewhere the others still run, and the error names those that failed.
    [[nodiscard]] Result<void> run(Occasion occasion);
    /// Whether run() has started any so far.
    [[nodiscard]] bool has_run_any() const noexcept { return has_run_any_; }
    [[nodiscard]] bool has_any() const { return !list_hooks(folder_).hooks.empty(); }
    [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
    /// What hooks are told from now on; empty: it is not attached.
    void set_device(std::string device) { facts_.device = std::move(device); }

  private:
    [[nodiscard]] HookOutcome run_one(const std::string& path, Occasion occasion) const;

    const std::string folder_;
    HookFacts facts_;
    const std::chrono::milliseconds limit_;
    const Recorder recorder_;
    const ProblemRecorder problems_;
    bool has_run_any_ = false;
};

}  // namespace mirror::daemon
