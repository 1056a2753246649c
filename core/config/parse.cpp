// SPDX-License-Identifier: BSD-3-Clause
// From TOML to a Config. The readers take one table each and stop at its first mistake; the rules
// that span tables (addresses, paths in common) are checked when all of them are read.
#include <arpa/inet.h>
#include <charconv>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <string_view>
#include <sys/un.h>
#include <utility>

#include <toml++/toml.h>

#include "core/base/units.hpp"
#include "core/config/config.hpp"
#include "core/config/words.hpp"

namespace mirror {
namespace {

constexpr std::uint64_t sector = 512;
constexpr std::uint64_t largest_size = std::uint64_t{1} << 60;
constexpr std::uint64_t slowest_rate = 4 * KiB;
constexpr std::chrono::milliseconds shortest_timeout{100};
constexpr std::chrono::milliseconds longest_timeout{std::chrono::minutes(10)};
constexpr std::size_t longest_socket_path = sizeof(sockaddr_un::sun_path) - 1;
constexpr std::string_view name_rule =
    "a name is 1 to 63 of a-z A-Z 0-9 . _ -, starting with a letter or digit";

/// One key with its value: what a message needs to point at.
struct Item {
    const std::string& file;
    std::string key;  ///< "volume.r0.size"
    const toml::node& value;
    toml::source_region source;

    [[nodiscard]] Failure wrong(std::string_view reason, std::string remedy = {}) const {
        const std::string place =
            source.begin ? fmt::format("{}:{}", file, source.begin.line) : file;
        return Failure(Error{ErrorKind::invalid, fmt::format("{}: {}: {}", place, key, reason),
                             std::move(remedy)});
    }
    [[nodiscard]] Item child(const toml::key& name, const toml::node& node) const {
        return {file, key.empty() ? std::string(name.str()) : fmt::format("{}.{}", key, name.str()),
                node, name.source()};
    }
};

using Keys = std::initializer_list<std::string_view>;

Failure unknown_key(const Item& item, Keys known) {
    return item.wrong("unknown key", fmt::format("known keys are {}", fmt::join(known, ", ")));
}

Result<const toml::table*> table_of(const Item& item) {
    const toml::table* table = item.value.as_table();
    if (table == nullptr) {
        return item.wrong("must be a table");
    }
    return table;
}

Result<std::string> string_of(const Item& item, std::string_view example) {
    const auto* text = item.value.as_string();
    if (text == nullptr) {
        return item.wrong("must be a string", fmt::format("such as \"{}\"", example));
    }
    return text->get();
}

/// The value into `target`, or what is wrong with it.
template <typename Value, typename Target>
Result<void> store(Result<Value> value, Target& target) {
    if (!value) {
        return Failure(value.error());
    }
    target = std::move(*value);
    return {};
}

Result<std::string> path_of(const Item& item, std::string_view example) {
    Result<std::string> text = string_of(item, example);
    if (!text) {
        return text;
    }
    if (!text->starts_with('/') || text->find('\0') != std::string::npos) {
        return item.wrong(fmt::format("'{}' is not an absolute path", *text),
                          fmt::format("such as \"{}\"", example));
    }
    // One spelling, so that two names of one place are seen as the same.
    const auto normal = std::filesystem::path(*text).lexically_normal();
    return normal.has_filename() ? normal.string() : normal.parent_path().string();
}

bool is_host_name(std::string_view host) {
    constexpr std::string_view letters =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    return !host.empty() && host.find_first_not_of(letters) == std::string_view::npos;
}

bool is_v6(const std::string& host) {
    in6_addr parsed{};
    return ::inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &parsed) == 1;
}

Result<Endpoint> address_of(const Item& item) {
    constexpr std::string_view example = "10.0.0.1:10809";
    const Result<std::string> text = string_of(item, example);
    if (!text) {
        return Failure(text.error());
    }
    const std::string remedy =
        "write \"HOST:PORT\" or \"[V6-ADDRESS]:PORT\", with a port from 1 to 65535";
    const Failure wrong = item.wrong(fmt::format("'{}' is not an address", *text), remedy);
    const std::size_t colon = text->rfind(':');
    if (colon == std::string::npos) {
        return wrong;
    }
    Endpoint endpoint{.host = text->substr(0, colon)};
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data() + colon + 1, end, endpoint.port);
    if (error != std::errc{} || stop != end || endpoint.port == 0) {
        return wrong;
    }
    if (endpoint.host.starts_with('[') && endpoint.host.ends_with(']')) {
        endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
        if (!is_v6(endpoint.host)) {
            return wrong;
        }
    } else if (!is_host_name(endpoint.host)) {
        return wrong;
    }
    if (endpoint.host == "0.0.0.0" || endpoint.host == "::") {
        return item.wrong(fmt::format("'{}' is no address that a peer can connect to", *text),
                          "write the address by which the other node reaches this one");
    }
    return endpoint;
}

Result<std::uint64_t> size_of(const Item& item) {
    Result<std::uint64_t> size = 0;
    if (const auto* number = item.value.as_integer()) {
        if (number->get() < 0) {
            return item.wrong("must not be negative");
        }
        size = static_cast<std::uint64_t>(number->get());
    } else if (const auto* text = item.value.as_string()) {
        size = parse_size(text->get());
        if (!size) {
            return item.wrong(size.error().message, size.error().remedy);
        }
    } else {
        return item.wrong("must be a string or a number of bytes", "such as \"10GiB\"");
    }
    if (*size == 0 || *size % sector != 0) {
        return item.wrong(fmt::format("{} bytes is not a size that a disk can have", *size),
                          fmt::format("take a multiple of {} bytes, above 0", sector));
    }
    if (*size > largest_size) {
        return item.wrong(fmt::format("{} bytes is too large", *size),
                          fmt::format("the largest is {} bytes", largest_size));
    }
    return size;
}

/// Bytes a second; 0 for no limit.
Result<std::uint64_t> rate_of(const Item& item) {
    Result<std::uint64_t> rate = 0;
    if (const auto* number = item.value.as_integer(); number != nullptr && number->get() >= 0) {
        rate = static_cast<std::uint64_t>(number->get());
    } else if (const auto* text = item.value.as_string()) {
        rate = parse_size(text->get());
    } else {
        return item.wrong("must be a string or a number of bytes a second", "such as \"64MiB\"");
    }
    if (!rate) {
        return item.wrong(rate.error().message, rate.error().remedy);
    }
    if (*rate != 0 && *rate < slowest_rate) {
        return item.wrong(fmt::format("{} bytes a second would take for ever", *rate),
                          fmt::format("take {} bytes or more, or 0 for no limit", slowest_rate));
    }
    return rate;
}

Result<std::chrono::milliseconds> timeout_of(const Item& item) {
    const Result<std::string> text = string_of(item, "5s");
    if (!text) {
        return Failure(text.error());
    }
    Result<std::chrono::milliseconds> timeout = parse_duration(*text);
    if (!timeout) {
        return item.wrong(timeout.error().message, timeout.error().remedy);
    }
    if (*timeout < shortest_timeout || *timeout > longest_timeout) {
        return item.wrong(fmt::format("'{}' is out of range", *text), "take 100ms to 10min");
    }
    return timeout;
}

/// "0s" means never.
Result<std::chrono::milliseconds> disk_timeout_of(const Item& item) {
    const Result<std::string> text = string_of(item, "30s");
    if (text) {
        auto given = parse_duration(*text);
        if (given && given->count() == 0) {
            return given;
        }
    }
    return timeout_of(item);
}

Result<std::string> mount_of(const Item& item) {
    Result<std::string> path = path_of(item, "/srv/data");
    if (path && path->find_first_not_of('/') == std::string::npos) {
        return item.wrong("a volume can't be mounted on /", "such as \"/srv/data\"");
    }
    return path;
}

Result<std::string> mount_options_of(const Item& item) {
    Result<std::string> options = string_of(item, "noatime");
    if (options && (options->empty() || options->find('\0') != std::string::npos)) {
        return item.wrong("these are no options of mount(8)", "such as \"noatime\"");
    }
    return options;
}

template <typename Choice>
Result<Choice> choice_of(const Item& item, const ChoiceWords<Choice>& words) {
    const Result<std::string> text = string_of(item, words[0].first);
    if (!text) {
        return Failure(text.error());
    }
    for (const auto& [word, choice] : words) {
        if (word == *text) {
            return choice;
        }
    }
    return item.wrong(fmt::format("'{}' is not known", *text),
                      fmt::format("take \"{}\" or \"{}\"", words[0].first, words[1].first));
}

Result<Mode> mode_of(const Item& item) {
    Result<Mode> mode = choice_of(item, mode_words);
    if (mode && *mode == Mode::async) {
        return item.wrong("asynchronous mode is not available in this version",
                          "use mode = \"sync\"");
    }
    return mode;
}

Result<void> read_node_key(NodeConfig& node, const Item& item, std::string_view key) {
    if (key == "address") {
        return store(address_of(item), node.address);
    }
    if (key == "run_dir") {
        return store(path_of(item, "/run/mirrordisk"), node.run_dir);
    }
    if (key == "state_dir") {
        return store(path_of(item, "/var/lib/mirrordisk"), node.state_dir);
    }
    return unknown_key(item, {"address", "run_dir", "state_dir"});
}

Result<void> read_node(Config& config, const Item& item, const std::string& name) {
    if (!is_valid_name(name)) {
        return item.wrong("not a valid name of a node", std::string(name_rule));
    }
    const Result<const toml::table*> table = table_of(item);
    if (!table) {
        return Failure(table.error());
    }
    NodeConfig node{.name = name};
    for (const auto& [key, value] : **table) {
        if (auto read = read_node_key(node, item.child(key, value), key.str()); !read) {
            return read;
        }
    }
    if (node.address.port == 0) {
        return item.wrong("address is missing", "add address = \"HOST:PORT\"");
    }
    for (const auto& [other_name, other] : config.nodes) {
        if (other.address == node.address) {
            return item.wrong(
                fmt::format("has the address {} of node.{}", node.address.text(), other_name),
                "give each node an address of its own");
        }
    }
    config.nodes.emplace(name, std::move(node));
    return {};
}

Result<void> read_backing(const Config& config, VolumeConfig& volume, const Item& item) {
    const toml::table* table = item.value.as_table();
    if (table == nullptr) {
        return item.wrong("must name its node", "write backing.NODE = \"/PATH\"");
    }
    for (const auto& [key, value] : *table) {
        const Item entry = item.child(key, value);
        const std::string node(key.str());
        const auto known = config.nodes.find(node);
        if (known == config.nodes.end()) {
            return entry.wrong(fmt::format("there is no [node.{}]", node),
                               "add it, or correct the name");
        }
        if (auto read = store(path_of(entry, "/srv/r0.img"), volume.backing[node]); !read) {
            return read;
        }
        volume.address[node] = known->second.address;
    }
    return {};
}

Result<void> read_volume_key(const Config& config, VolumeConfig& volume, const Item& item,
                             std::string_view key) {
    if (key == "size") {
        return store(size_of(item), volume.size);
    }
    if (key == "mode") {
        return store(mode_of(item), volume.mode);
    }
    if (key == "device") {
        return store(path_of(item, "/dev/nbd0"), volume.device);
    }
    if (key == "mount") {
        return store(mount_of(item), volume.mount);
    }
    if (key == "mount_options") {
        return store(mount_options_of(item), volume.mount_options);
    }
    if (key == "active_at_boot") {
        return store(string_of(item, "alpha"), volume.active_at_boot);
    }
    if (key == "hook_timeout") {
        return store(timeout_of(item), volume.hook_timeout);
    }
    if (key == "peer_timeout") {
        return store(timeout_of(item), volume.peer_timeout);
    }
    if (key == "disk_timeout") {
        return store(disk_timeout_of(item), volume.disk_timeout);
    }
    if (key == "on_peer_loss") {
        return store(choice_of(item, on_peer_loss_words), volume.on_peer_loss);
    }
    if (key == "verify_rate") {
        return store(rate_of(item), volume.verify_rate);
    }
    if (key == "backing") {
        return read_backing(config, volume, item);
    }
    return unknown_key(
        item, {"size", "mode", "device", "mount", "mount_options", "peer_timeout", "disk_timeout",
               "hook_timeout", "on_peer_loss", "verify_rate", "active_at_boot", "backing.NODE"});
}

/// The keys that need each other, when all are read.
Result<void> check_companions(const VolumeConfig& volume, const Item& item) {
    const auto wrong = [&](const char* key, std::string_view reason, std::string remedy) {
        const auto entry = item.value.as_table()->find(key);
        return item.child(entry->first, entry->second).wrong(reason, std::move(remedy));
    };
    if (!volume.mount.empty() && volume.device.empty()) {
        return wrong("mount", "the volume has no device that could be mounted",
                     "add device = \"/dev/nbd0\"");
    }
    if (!volume.mount_options.empty() && volume.mount.empty()) {
        return wrong("mount_options", "the volume has no mount", "add mount = \"/srv/data\"");
    }
    if (!volume.active_at_boot.empty() && !volume.backing.contains(volume.active_at_boot)) {
        return wrong("active_at_boot",
                     fmt::format("'{}' is no node of this volume", volume.active_at_boot),
                     fmt::format("take \"{}\" or \"{}\"", volume.backing.begin()->first,
                                 volume.backing.rbegin()->first));
    }
    return {};
}

Result<void> read_volume(Config& config, const Item& item, const std::string& name) {
    if (!is_valid_name(name)) {
        return item.wrong("not a valid name of a volume", std::string(name_rule));
    }
    const Result<const toml::table*> table = table_of(item);
    if (!table) {
        return Failure(table.error());
    }
    VolumeConfig volume{.name = name};
    for (const auto& [key, value] : **table) {
        if (auto read = read_volume_key(config, volume, item.child(key, value), key.str()); !read) {
            return read;
        }
    }
    if (volume.backing.size() != 2) {
        return item.wrong(fmt::format("has backing for {} nodes", volume.backing.size()),
                          "write backing.NODE = \"/PATH\" for exactly two nodes");
    }
    if (auto fitting = check_companions(volume, item); !fitting) {
        return fitting;
    }
    for (const auto& [node, path] : volume.backing) {
        const std::string socket = config.nodes.at(node).volume_socket(name);
        if (socket.size() > longest_socket_path) {
            return item.wrong(
                fmt::format("its socket {} has a path of {} bytes", socket, socket.size()),
                fmt::format("the system allows {}: shorten the name or node.{}.run_dir",
                            longest_socket_path, node));
        }
    }
    config.volumes.emplace(name, std::move(volume));
    return {};
}

/// No path on a node serves twice, be it as backing or as device.
Result<void> check_paths(const Config& config, const Item& volumes) {
    std::map<std::pair<std::string, std::string>, std::string> users;  // (node, path) → key
    const auto claim = [&](const std::string& node, const std::string& path,
                           const VolumeConfig& volume, const std::string& key) -> Result<void> {
        const auto [user, is_new] =
            users.try_emplace({node, path}, fmt::format("volume.{}.{}", volume.name, key));
        if (!is_new) {
            const auto entry = volumes.value.as_table()->find(volume.name);
            return volumes.child(entry->first, entry->second)
                .wrong(fmt::format("{} {} is also {} on node {}", key, path, user->second, node),
                       "give each volume a backing, a device and a mount of its own");
        }
        return {};
    };
    for (const auto& [name, volume] : config.volumes) {
        for (const auto& [node, path] : volume.backing) {
            if (auto claimed = claim(node, path, volume, "backing." + node); !claimed) {
                return claimed;
            }
            if (volume.device.empty()) {
                continue;
            }
            if (auto claimed = claim(node, volume.device, volume, "device"); !claimed) {
                return claimed;
            }
            if (volume.mount.empty()) {
                continue;
            }
            if (auto claimed = claim(node, volume.mount, volume, "mount"); !claimed) {
                return claimed;
            }
        }
    }
    return {};
}

/// Calls `read(config, item, name)` for every entry of [SECTION.*].
template <typename Read>
Result<void> read_section(Config& config, const Item& section, Read read) {
    const Result<const toml::table*> table = table_of(section);
    if (!table) {
        return Failure(table.error());
    }
    for (const auto& [key, value] : **table) {
        if (auto done = read(config, section.child(key, value), std::string(key.str())); !done) {
            return done;
        }
    }
    return {};
}

Result<Config> read_root(const toml::table& root, const std::string& path) {
    Config config{.path = path};
    const Item top{path, "", root, {}};
    for (const auto& [key, value] : root) {
        if (key.str() != "node" && key.str() != "volume") {
            return unknown_key(top.child(key, value), {"node.NAME", "volume.NAME"});
        }
    }
    // Volumes name nodes, wherever in the file these are.
    if (const auto nodes = root.find("node"); nodes != root.end()) {
        if (auto read = read_section(config, top.child(nodes->first, nodes->second), read_node);
            !read) {
            return Failure(read.error());
        }
    }
    if (config.nodes.empty()) {
        return Failure(Error{ErrorKind::invalid, path + ": node: no node is configured",
                             "add [node.NAME] with address = \"HOST:PORT\" for both machines"});
    }
    if (const auto volumes = root.find("volume"); volumes != root.end()) {
        const Item section = top.child(volumes->first, volumes->second);
        auto read = read_section(config, section, read_volume);
        if (read) {
            read = check_paths(config, section);
        }
        if (!read) {
            return Failure(read.error());
        }
    }
    return config;
}

}  // namespace

Result<Config> parse_config(const std::string& text, const std::string& path) {
    try {
        return read_root(toml::parse(text, path), path);
    } catch (const toml::parse_error& error) {
        return fail(ErrorKind::invalid, "{}:{}: {}", path, error.source().begin.line,
                    error.description());
    } catch (const std::exception& error) {
        return fail(ErrorKind::internal, "{}: {}", path, error.what());
    }
}

}  // namespace mirror
