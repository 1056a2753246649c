// SPDX-License-Identifier: BSD-3-Clause
// What was typed, as values. Filled by command_line.cpp, read by the verbs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mirror::tools {

struct Options {
    std::string verb;
    std::string volume;  ///< empty: none given

    std::string config;
    std::string node;
    bool json = false;
    bool no_colour = false;

    bool dry_run = false;
    bool yes = false;
    bool overwrite_peer = false;
    bool from_empty = false;
    bool accept_mode = false;
    bool local_only = false;
    bool replace = false;
    bool force = false;
    bool fenced = false;
    bool disconnect_clients = false;
    bool full = false;
    bool wait = false;
    bool watch = false;
    bool follow = false;
    bool repair = false;
    bool stop = false;
    bool restart = false;
    bool all = false;
    std::string size;  ///< of resize, as typed; empty: none given
    std::string rate;  ///< as typed; empty: none given
    bool add_key = false;
    bool next_key = false;
    bool retire_key = false;
    bool pair_keys = false;
    std::string keys_with;       ///< a node; empty: all
    std::string remove_keys_of;  ///< a node
    std::string take_keys;       ///< a file
    bool nagios = false;
    bool test_hooks = false;
    bool no_undo = false;
    bool list = false;
    bool drop = false;
    bool over = false;
    std::string export_to;
    std::string output;  ///< of support: a file; empty: a name is made
    std::optional<std::uint64_t> id;
    std::string to;
    std::string keep;
    std::string since;
    std::string wait_for;
    std::optional<double> timeout_seconds;
    // Of init.
    std::vector<std::string> members;  ///< NAME=ADDRESS[:PORT][,KEY=VALUE…], as typed
    std::vector<std::string> volumes;  ///< NAME[,KEY=VALUE…], as typed
    std::optional<std::uint16_t> port;
    std::string folder = "/srv";
    bool join = false;
    bool show_join = false;
};

/// Exit codes of all verbs; `status` has its own meaning for 1 and 2 (status_view.hpp).
inline constexpr int exit_done = 0;
inline constexpr int exit_refused = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_unknown = 3;

}  // namespace mirror::tools
