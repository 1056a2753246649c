// SPDX-License-Identifier: BSD-3-Clause
// What a configuration answers once it is read, and where it is found; parse.cpp reads it.
#include "core/config/config.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cstdlib>
#include <netinet/in.h>
#include <string_view>

#include "core/config/words.hpp"

namespace mirror {
namespace {

template <typename Map>
std::string names_of(const Map& map) {
    std::string names;
    for (const auto& [name, value] : map) {
        names += (names.empty() ? "" : ", ") + name;
    }
    return names;
}

template <typename Map>
Failure not_in_config(const Config& config, std::string_view what, const std::string& name,
                      const Map& known) {
    const std::string remedy = known.empty() ? fmt::format("the file has no {}", what)
                                             : fmt::format("the file has {}", names_of(known));
    return Failure(Error{ErrorKind::not_found,
                         fmt::format("{}: no {} is named '{}'", config.path, what, name), remedy});
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
}

}  // namespace

std::string Endpoint::text() const {
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                               : fmt::format("[{}]:{}", host, port);
}

bool Endpoint::is_loopback() const {
    in_addr v4{};
    in6_addr v6{};
    if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return host == "localhost";
}

std::string VolumeConfig::peer_of(const std::string& node) const {
    if (backing.count(node) == 0) {
        return "";
    }
    for (const auto& [other, path] : backing) {
        if (other != node) {
            return other;
        }
    }
    return "";
}

std::map<std::string, std::string> VolumeConfig::shared_settings() const {
    std::map<std::string, std::string> settings{
        {"size", size ? fmt::format("{}", *size) : ""},
        {"mode", std::string(to_word(mode))},
        {"device", device},
        {"peer_timeout", fmt::format("{}ms", peer_timeout.count())},
        {"on_peer_loss", std::string(to_word(on_peer_loss))},
    };
    for (const auto& [node, path] : backing) {
        settings["backing." + node] = path;
    }
    for (const auto& [node, endpoint] : address) {
        settings["address." + node] = endpoint.text();
    }
    return settings;
}

Result<const NodeConfig*> Config::node(const std::string& name) const {
    const auto found = nodes.find(name);
    if (found == nodes.end()) {
        Failure failure = not_in_config(*this, "node", name, nodes);
        failure.value().remedy += "; choose this machine's with --node NAME or $MIRRORDISK_NODE";
        return failure;
    }
    return &found->second;
}

Result<const VolumeConfig*> Config::volume(const std::string& name) const {
    const auto found = volumes.find(name);
    if (found == volumes.end()) {
        return not_in_config(*this, "volume", name, volumes);
    }
    return &found->second;
}

RemoteVerbs remote_verbs_of(const NodeConfig& node, const VolumeConfig& volume) noexcept {
    if (node.remote_verbs && volume.remote_verbs) {
        return std::min(*node.remote_verbs, *volume.remote_verbs);
    }
    return node.remote_verbs.value_or(volume.remote_verbs.value_or(RemoteVerbs::switched));
}

std::string config_path(const std::string& given) {
    if (!given.empty()) {
        return given;
    }
    const std::string from_environment = environment("MIRRORDISK_CONFIG");
    return !from_environment.empty() ? from_environment : "/etc/mirrordisk/mirrordisk.toml";
}

bool is_valid_name(const std::string& name) noexcept {
    constexpr std::string_view alphanumeric =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    if (name.empty() || name.size() > 63 || alphanumeric.find(name[0]) == std::string_view::npos) {
        return false;
    }
    for (char letter : name) {
        if (alphanumeric.find(letter) == std::string_view::npos && letter != '.' && letter != '_' &&
            letter != '-') {
            return false;
        }
    }
    return true;
}

}  // namespace mirror
