// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/this_node.hpp"

#include <array>
#include <cstdlib>
#include <unistd.h>
#include <vector>

#include "core/config/own_names.hpp"

namespace mirror {
namespace {

/// Null where no node has it in any spelling.
Result<const NodeConfig*> node_spelled(const Config& config, const std::string& name) {
    if (const auto exact = config.nodes.find(name); exact != config.nodes.end()) {
        return &exact->second;
    }
    std::vector<const NodeConfig*> alike;
    std::string names;
    for (const auto& [spelling, node] : config.nodes) {
        if (lower_case(spelling) == lower_case(name)) {
            alike.push_back(&node);
            names += (names.empty() ? "" : " and ") + spelling;
        }
    }
    if (alike.size() > 1) {
        return Failure(Error{
            ErrorKind::invalid,
            fmt::format("{}: this machine is called '{}', which matches more than one node: {}",
                        config.path, name, names),
            "choose with --node NAME or $MIRRORDISK_NODE"});
    }
    return alike.empty() ? nullptr : alike.front();
}

std::string host_name() {
    std::array<char, 256> host{};  // HOST_NAME_MAX is 64; the last byte stays 0
    return ::gethostname(host.data(), host.size() - 1) == 0 ? host.data() : "";
}

}  // namespace

Result<const NodeConfig*> node_of_host(const Config& config, const std::string& host) {
    auto found = node_spelled(config, host);
    if (!found || *found != nullptr) {
        return found;
    }
    const std::string first = host.substr(0, host.find('.'));
    found = node_spelled(config, first);
    if (!found || *found != nullptr) {
        return found;
    }
    Failure failure(config.node(host).error());
    if (first != host) {
        failure.value().message += fmt::format(", as this machine is, nor '{}'", first);
    }
    return failure;
}

Result<const NodeConfig*> this_node(const Config& config, const std::string& given) {
    if (!given.empty()) {
        return config.node(given);
    }
    const char* chosen = std::getenv("MIRRORDISK_NODE");
    return chosen != nullptr && *chosen != '\0' ? config.node(chosen)
                                                : node_of_host(config, host_name());
}

}  // namespace mirror
