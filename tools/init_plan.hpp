// SPDX-License-Identifier: BSD-3-Clause
// What mirrorctl init makes of a person's words: the configuration of a pair of nodes, and the
// commands that are left to do. Reads and writes no file. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.hpp"
#include "core/config/mistakes.hpp"

namespace mirror::tools {

/// In the order in which they are written: the key in the file → its value.
using Keys = std::vector<std::pair<std::string, std::string>>;

struct Member {
    std::string name;
    std::string address;  ///< with its port
    Keys keys{};          ///< run_dir, …
};

struct PlannedVolume {
    std::string name;
    Keys keys{};
};

struct InitPlan {
    std::vector<Member> members;
    std::vector<PlannedVolume> volumes;
};

inline constexpr std::uint16_t usual_port = 10809;

/// "alpha=10.0.0.1" or "alpha=[fe80::1]:10810,run_dir=/run/x"; an address without a port gets
/// `port`.
[[nodiscard]] Result<Member> parse_member(const std::string& words, std::uint16_t port);
/// "r0,size=10GiB,backing=/srv/r0.img,mount=/srv/data": the keys of the file; `backing` is that of
/// both nodes, and `device=none` means none.
[[nodiscard]] Result<PlannedVolume> parse_volume(const std::string& words);
[[nodiscard]] std::string with_port(const std::string& address, std::uint16_t port);

/// Fills in what has a usual value: backing files in `folder`, devices by number.
void complete(InitPlan& plan, const std::string& folder);
/// What only a person knows and the plan lacks, in words; empty: nothing.
[[nodiscard]] std::vector<std::string> missing_in(const InitPlan& plan);
/// Whether a volume's size is to be said: a backing is a file, and not a device.
[[nodiscard]] bool needs_size(const PlannedVolume& volume);
[[nodiscard]] const std::string* find_key(const Keys& keys, std::string_view name);

/// The file, with comments.
[[nodiscard]] std::string config_text(const InitPlan& plan);
/// Whether both say the same, whatever their comments and order. A text that is no TOML says
/// nothing.
[[nodiscard]] bool say_the_same(const std::string& one, const std::string& other);
/// The lines of `old` that mean something and are not in `fresh`.
[[nodiscard]] std::vector<std::string> lines_lost(const std::string& old, const std::string& fresh);
/// Without the place in a file that nobody has seen yet.
[[nodiscard]] std::string words_of(const Mistake& mistake, const std::string& path);

/// Which programs for firewalls a machine has.
enum class Firewall { unknown, ufw, firewalld, nft };
/// The command that lets the peer in on that node.
[[nodiscard]] std::string firewall_command(Firewall firewall, const Endpoint& own,
                                           const Endpoint& peer);

}  // namespace mirror::tools
