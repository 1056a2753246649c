// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/check_addresses.hpp"

#include <algorithm>

#include "core/base/json.hpp"
#include "core/nbd/look_up.hpp"

namespace mirror::daemon {
namespace {

using Numbers = Result<std::vector<std::string>>;

bool is_all_loopback(const Numbers& numbers) {
    return numbers && std::all_of(numbers->begin(), numbers->end(), nbd::is_loopback);
}

std::string first_loopback(const Numbers& numbers) {
    const auto found = std::find_if(numbers->begin(), numbers->end(), nbd::is_loopback);
    return found == numbers->end() ? std::string() : *found;
}

/// "alpha (127.0.1.1)", or the number alone.
std::string with_number(const std::string& host, const std::string& number) {
    return host == number ? number : fmt::format("{} ({})", host, number);
}

std::string what_to_change(const std::string& node, const std::string& host,
                           const std::string& number) {
    const std::string in_config =
        fmt::format("write the number of its network address into address of [node.{}]", node);
    return host == number
               ? in_config
               : fmt::format("correct {} in /etc/hosts on this machine, or {}", host, in_config);
}

std::string own_problem(const NodeConfig& node, const Numbers& numbers) {
    const std::string number = numbers->front();
    return fmt::format(
        "{} listens on {} only, a loopback address: no other machine can connect to it; {}",
        node.name, with_number(node.address.host, number),
        what_to_change(node.name, node.address.host, number));
}

std::string peer_problem(const NodeConfig& node, const std::string& number) {
    return fmt::format(
        "on this machine the address of {} is {}, a loopback address: data sent there does not "
        "leave the machine; {}",
        node.name, with_number(node.address.host, number),
        what_to_change(node.name, node.address.host, number));
}

}  // namespace

std::vector<std::string> judge_addresses(const Config& config, const std::string& node,
                                         const NodeNumbers& numbers, bool all_reached) {
    const bool one_machine = std::all_of(numbers.begin(), numbers.end(), [](const auto& entry) {
        return is_all_loopback(entry.second);
    });
    std::vector<std::string> problems;
    for (const auto& [name, found] : numbers) {
        const NodeConfig& config_of = config.nodes.at(name);
        if (!found) {
            problems.push_back(fmt::format("address of [node.{}]: {}", name, found.error().text()));
        } else if (one_machine && (all_reached || config_of.address.is_loopback())) {
            continue;  // several nodes of one machine, to try things out
        } else if (name == node && is_all_loopback(found)) {
            problems.push_back(own_problem(config_of, found));
        } else if (name != node && !first_loopback(found).empty()) {
            problems.push_back(peer_problem(config_of, first_loopback(found)));
        }
    }
    return problems;
}

void check_addresses(const Context& context, bool all_reached, Json& problems) {
    NodeNumbers numbers;
    for (const auto& [name, node] : context.used().nodes) {
        if (name != context.node.name || !context.listens_elsewhere) {
            numbers.emplace(name, nbd::look_up(node.address.host));
        }
    }
    for (const std::string& problem :
         judge_addresses(context.used(), context.node.name, numbers, all_reached)) {
        problems.push_back(problem);
    }
}

}  // namespace mirror::daemon
