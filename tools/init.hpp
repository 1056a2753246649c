// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl init: a pair of nodes from nothing. On the first node it writes the configuration and
// makes the keys; `--show-join` prints what the other node needs, and `--join` there takes it. Asks
// no daemon, and needs no configuration. Main thread.
#pragma once

#include <string>
#include <vector>

#include "tools/init_plan.hpp"
#include "tools/session.hpp"

namespace mirror::tools {

/// The exit code. `path`: the configuration's.
[[nodiscard]] int init(const Options& options, const std::string& path, World& world);

// init_join.cpp
[[nodiscard]] int init_join(const Options& options, const std::string& path, World& world);
[[nodiscard]] int init_show_join(const Options& options, const std::string& path, World& world);

// init_questions.cpp
/// Asks for what a plan lacks. `name`: of this node, as far as it is known.
[[nodiscard]] Result<void> ask_for_plan(InitPlan& plan, const Options& options,
                                        const std::string& name, World& world);

// init_files.cpp
/// A configuration that is about to be written, beside what is there.
struct ConfigFile {
    std::string path;
    std::string text;
    std::string old{};  ///< what is there
    bool exists = false;
    bool is_the_same = false;         ///< it says the same
    std::vector<std::string> lost{};  ///< lines of it that would go
};
[[nodiscard]] Result<ConfigFile> compare_config(const std::string& path, std::string text);
/// Refused where another one is there and `force` does not say that it may go.
[[nodiscard]] Result<void> require_replaceable(const ConfigFile& file, bool force);
/// 0644, with its folder; the old one stays beside it as PATH.old.
[[nodiscard]] Result<void> write_config(const ConfigFile& file);
/// A sentence where the address is not one of this machine's; empty: it is.
[[nodiscard]] std::string why_not_own_address(const Endpoint& address);
[[nodiscard]] Firewall firewall_here();

}  // namespace mirror::tools
