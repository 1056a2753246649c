// SPDX-License-Identifier: BSD-3-Clause
#include "tools/init_plan.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <iterator>
#include <set>
#include <sstream>
#include <string_view>

#include <toml++/toml.h>

#include "core/config/known_keys.hpp"

namespace mirror::tools {
namespace {

std::vector<std::string> parts_of(const std::string& words) {
    std::vector<std::string> parts;
    std::istringstream rest(words);
    for (std::string part; std::getline(rest, part, ',');) {
        parts.push_back(part);
    }
    return parts;
}

Result<std::pair<std::string, std::string>> parse_pair(const std::string& part,
                                                       std::string_view option) {
    const std::size_t equals = part.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == part.size()) {
        return Failure(Error{ErrorKind::invalid,
                             fmt::format("{}: '{}' is not KEY=VALUE", option, part),
                             "a value with a comma is written into the file by hand"});
    }
    return std::pair(part.substr(0, equals), part.substr(equals + 1));
}

/// As TOML writes it.
std::string toml_text(std::string_view text) {
    std::string result = "\"";
    for (const char letter : text) {
        if (letter == '"' || letter == '\\') {
            result += '\\';
        }
        if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) {
            result += fmt::format("\\u{:04X}", static_cast<unsigned>(letter));
        } else {
            result += letter;
        }
    }
    return result + '"';
}

/// A name with a dot would be a table in a table.
std::string bare_or_quoted(const std::string& name) {
    return name.find('.') == std::string::npos ? name : toml_text(name);
}

std::string key_text(const std::string& key) {
    constexpr std::string_view backing = "backing.";
    return key.starts_with(backing)
               ? std::string(backing) + bare_or_quoted(key.substr(backing.size()))
               : key;
}

std::string_view comment_of(const std::string& key) {
    if (key == "size") {
        return "of a backing file; a device has its own";
    }
    if (key == "device") {
        return "the disk, on the node where the volume is active";
    }
    if (key == "mount") {
        return "mounted after a promotion, unmounted before a demotion";
    }
    return key.starts_with("backing.") ? "where that node keeps its replica" : "";
}

std::string line_of(const std::string& key, const std::string& value) {
    const std::string line = fmt::format("{} = {}", key_text(key), toml_text(value));
    const std::string_view comment = comment_of(key);
    return comment.empty() ? line + "\n" : fmt::format("{:<38} # {}\n", line, comment);
}

constexpr std::string_view head =
    "# The configuration of a mirror, made by mirrorctl init; see mirrordisk.toml(5). It is the "
    "same\n"
    "# on both nodes. After a change on both: mirrorctl check, then mirrorctl reload.\n"
    "# Keys of the whole cluster (tls, psk_file, control_group) stand here, above all tables.\n"
    "\n"
    "# One table a node: the machine's host name, and where mirrord listens for its peer.\n";

constexpr std::string_view usual_keys =
    "# peer_timeout = \"5s\"                   # the longest that a silent peer may hold I/O\n"
    "# on_peer_loss = \"continue\"             # or \"stop\": writes wait for the peer\n";

bool is_v6(const std::string& host) {
    in6_addr parsed{};
    return ::inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &parsed) == 1;
}

void set_if_missing(Keys& keys, const std::string& key, const std::string& value) {
    if (find_key(keys, key) == nullptr) {
        keys.emplace_back(key, value);
    }
}

/// The place of a key in the file; unknown ones last, where the reader of the file names them.
std::size_t rank_of(const std::string& key) {
    const std::string stem = key.substr(0, key.find('.'));
    const auto* const at = std::find_if(
        volume_keys.begin(), volume_keys.end(),
        [&](std::string_view known) { return known.substr(0, known.find('.')) == stem; });
    return static_cast<std::size_t>(at - volume_keys.begin());
}

std::set<std::string> meaning_lines(const std::string& text) {
    std::set<std::string> lines;
    std::istringstream rest(text);
    for (std::string line; std::getline(rest, line);) {
        const std::size_t first = line.find_first_not_of(" \t");
        if (first != std::string::npos && line[first] != '#') {
            const std::size_t comment = line.find(" #");
            line = line.substr(first, comment == std::string::npos ? comment : comment - first);
            lines.insert(line.substr(0, line.find_last_not_of(" \t\r") + 1));
        }
    }
    return lines;
}

}  // namespace

std::string with_port(const std::string& address, std::uint16_t port) {
    if (is_v6(address)) {
        return fmt::format("[{}]:{}", address, port);
    }
    const bool has_port = address.starts_with('[') ? address.find("]:") != std::string::npos
                                                   : address.find(':') != std::string::npos;
    return has_port ? address : fmt::format("{}:{}", address, port);
}

Result<Member> parse_member(const std::string& words, std::uint16_t port) {
    constexpr std::string_view option = "--member";
    const std::vector<std::string> parts = parts_of(words);
    const auto first = parse_pair(parts.empty() ? "" : parts.front(), option);
    if (!first) {
        return Failure(
            Error{ErrorKind::invalid,
                  fmt::format("{}: '{}' does not begin with NAME=ADDRESS", option, words),
                  "such as --member alpha=10.0.0.1"});
    }
    Member member{first->first, with_port(first->second, port)};
    for (auto part = std::next(parts.begin()); part != parts.end(); ++part) {
        auto pair = parse_pair(*part, option);
        if (!pair) {
            return Failure(pair.error());
        }
        member.keys.push_back(std::move(*pair));
    }
    return member;
}

Result<PlannedVolume> parse_volume(const std::string& words) {
    constexpr std::string_view option = "--volume";
    const std::vector<std::string> parts = parts_of(words);
    if (parts.empty() || parts.front().empty() || parts.front().find('=') != std::string::npos) {
        return Failure(Error{ErrorKind::invalid,
                             fmt::format("{}: '{}' does not begin with a name", option, words),
                             "such as --volume r0,size=10GiB"});
    }
    PlannedVolume volume{parts.front()};
    for (auto part = std::next(parts.begin()); part != parts.end(); ++part) {
        auto pair = parse_pair(*part, option);
        if (!pair) {
            return Failure(pair.error());
        }
        volume.keys.push_back(std::move(*pair));
    }
    return volume;
}

const std::string* find_key(const Keys& keys, std::string_view name) {
    const auto found = std::find_if(keys.begin(), keys.end(),
                                    [&](const auto& pair) { return pair.first == name; });
    return found == keys.end() ? nullptr : &found->second;
}

bool needs_size(const PlannedVolume& volume) {
    return std::any_of(volume.keys.begin(), volume.keys.end(), [](const auto& pair) {
        return pair.first.starts_with("backing.") && !pair.second.starts_with("/dev/");
    });
}

void complete(InitPlan& plan, const std::string& folder) {
    std::size_t number = 0;
    for (PlannedVolume& volume : plan.volumes) {
        const std::string* const shared = find_key(volume.keys, "backing");
        const std::string backing =
            shared != nullptr ? *shared : fmt::format("{}/{}.img", folder, volume.name);
        std::erase_if(volume.keys, [](const auto& pair) { return pair.first == "backing"; });
        for (const Member& member : plan.members) {
            set_if_missing(volume.keys, "backing." + member.name, backing);
        }
        set_if_missing(volume.keys, "device", fmt::format("/dev/nbd{}", number++));
        std::erase_if(volume.keys, [](const auto& pair) {
            return pair.first == "device" && pair.second == "none";
        });
        std::stable_sort(volume.keys.begin(), volume.keys.end(),
                         [](const auto& one, const auto& other) {
                             return rank_of(one.first) < rank_of(other.first);
                         });
    }
}

std::vector<std::string> missing_in(const InitPlan& plan) {
    std::vector<std::string> missing;
    if (plan.members.size() < 2) {
        missing.push_back(
            fmt::format("{} --member NAME=ADDRESS", plan.members.empty() ? "two" : "a second"));
    }
    if (plan.volumes.empty()) {
        missing.emplace_back("a --volume NAME,size=SIZE");
    }
    for (const PlannedVolume& volume : plan.volumes) {
        if (needs_size(volume) && find_key(volume.keys, "size") == nullptr) {
            missing.push_back(fmt::format("the size of {0} (--volume {0},size=SIZE)", volume.name));
        }
    }
    return missing;
}

std::string config_text(const InitPlan& plan) {
    std::string text(head);
    for (const Member& member : plan.members) {
        text += fmt::format("[node.{}]\n{}", bare_or_quoted(member.name),
                            line_of("address", member.address));
        for (const auto& [key, value] : member.keys) {
            text += line_of(key, value);
        }
        text += '\n';
    }
    text += "# One table a volume.\n";
    for (const PlannedVolume& volume : plan.volumes) {
        text += fmt::format("[volume.{}]\n", bare_or_quoted(volume.name));
        for (const auto& [key, value] : volume.keys) {
            text += line_of(key, value);
        }
        text += fmt::format("{}\n", usual_keys);
    }
    text.pop_back();
    return text;
}

bool say_the_same(const std::string& one, const std::string& other) {
    if (one == other) {
        return true;
    }
    try {
        return toml::parse(one) == toml::parse(other);
    } catch (const toml::parse_error&) {
        return false;
    }
}

std::vector<std::string> lines_lost(const std::string& old, const std::string& fresh) {
    const std::set<std::string> before = meaning_lines(old);
    const std::set<std::string> after = meaning_lines(fresh);
    std::vector<std::string> lost;
    std::set_difference(before.begin(), before.end(), after.begin(), after.end(),
                        std::back_inserter(lost));
    return lost;
}

std::string words_of(const Mistake& mistake, const std::string& path) {
    const std::string place = fmt::format("{}:{}: ", path, mistake.line);
    const std::string text = mistake.error.text();
    return text.starts_with(place) ? text.substr(place.size()) : text;
}

std::string firewall_command(Firewall firewall, const Endpoint& own, const Endpoint& peer) {
    const bool is_usual = own.port == usual_port;
    const char* const family = peer.host.find(':') == std::string::npos ? "ipv4" : "ipv6";
    switch (firewall) {
        case Firewall::ufw:
            return is_usual ? fmt::format("ufw allow from {} to any app mirrordisk", peer.host)
                            : fmt::format("ufw allow proto tcp from {} to any port {}", peer.host,
                                          own.port);
        case Firewall::firewalld:
            return fmt::format(
                "firewall-cmd --permanent --add-rich-rule='rule family=\"{}\" source "
                "address=\"{}\" {} accept' && firewall-cmd --reload",
                family, peer.host,
                is_usual ? std::string("service name=\"mirrordisk\"")
                         : fmt::format("port port=\"{}\" protocol=\"tcp\"", own.port));
        case Firewall::nft:
            return fmt::format("nft add rule inet filter input {} saddr {} tcp dport {} accept",
                               peer.host.find(':') == std::string::npos ? "ip" : "ip6", peer.host,
                               own.port);
        case Firewall::unknown:
            break;
    }
    return {};
}

}  // namespace mirror::tools
