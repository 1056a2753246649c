// SPDX-License-Identifier: BSD-3-Clause
// Every name that mirrordisk itself has beside what users name: files in RUN_DIR and STATE_DIR,
// exports, certificates. Whoever makes a file there takes its name from here, or adds it: the
// configuration refuses the names of volumes and nodes that would meet one of them, and paths that
// are one of them. Values; any thread.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace mirror {

struct Config;

namespace own_names {

inline constexpr std::string_view daemon_socket = "mirrord.sock";
inline constexpr std::string_view daemon_lock = "mirrord.lock";
inline constexpr std::string_view events = "events.jsonl";
/// How far the programs in events.d have got.
inline constexpr std::string_view events_cursor = "events.cursor";
/// The mailbox, of mirrord and of every engine.
inline constexpr std::string_view control_export = "control";

/// RUN_DIR/VOLUME and one of these.
inline constexpr std::string_view volume_socket = ".sock";
inline constexpr std::string_view express_socket = ".express.sock";
inline constexpr std::string_view engine_pid = ".pid";
inline constexpr std::string_view engine_error = ".engine-error";
inline constexpr std::string_view active_mark = ".active";
inline constexpr std::string_view engine_settings = ".settings";
inline constexpr std::string_view boot_mark = ".boot";

inline constexpr std::array in_run_dir{daemon_socket, daemon_lock};
inline constexpr std::array of_a_volume{volume_socket, express_socket,  engine_pid, engine_error,
                                        active_mark,   engine_settings, boot_mark};

}  // namespace own_names

/// Why no volume may have this name, a sentence; empty: it may. Letters are compared without regard
/// to case, since some filesystems do.
[[nodiscard]] std::string why_no_volume_name(std::string_view name);
/// The same for a node.
[[nodiscard]] std::string why_no_node_name(std::string_view name);

/// The files and folders of mirrord on a node of the configuration, with absolute paths.
[[nodiscard]] std::vector<std::string> own_paths(const Config& config, const std::string& node);

/// ASCII only: what names are made of.
[[nodiscard]] std::string lower_case(std::string_view name);

}  // namespace mirror
