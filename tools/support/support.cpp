// SPDX-License-Identifier: BSD-3-Clause
#include "tools/support/support.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <sys/stat.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "core/config/this_node.hpp"
#include "tools/support/machine_parts.hpp"

namespace mirror::tools {
namespace {

/// As much of the configuration as could be read; the defaults for the rest.
struct Known {
    TlsConfig tls;
    NodeConfig node;
    std::string control_group;
    std::string problem;  ///< why that is not all
};

Known what_is_known(const Options& options, const std::string& path) {
    Known known;
    known.node.name = "unknown";
    known.tls.psk_file = (std::filesystem::absolute(path).parent_path() / "cluster.psk").string();
    const auto config = load_config(path);
    if (!config) {
        known.problem = config.error().text();
        return known;
    }
    known.tls = config->tls;
    known.control_group = config->control_group;
    const auto node = this_node(*config, options.node);
    if (node) {
        known.node = **node;
    } else {
        known.problem = node.error().text();
    }
    return known;
}

/// One question after the other, until one is not answered: each may take its whole deadline.
void ask_mirrord(Bundle& bundle, const Known& known, World& world) {
    DaemonClient client(known.node, known.control_group);
    const auto ask = [&](const char* request) {
        return client.ask({{"request", request}}, query_deadline);
    };
    std::optional<Error> silent;
    for (const char* request : {"version", "status", "check"}) {
        const std::string name = fmt::format("{}.json", request);
        if (silent) {
            bundle.add(name, Failure(Error{silent->kind, silent->message}));
            continue;
        }
        const SteadyTime start = world.clock.steady_now();
        const bool is_of_all = std::string_view(request) == "status";
        const auto answer = is_of_all ? ask_status_of_all(client, query_deadline) : ask(request);
        constexpr int indent = 2;
        bundle.add(name, answer.map([](const Json& json) {
            return json.dump(indent, ' ', false, Json::error_handler_t::replace) + '\n';
        }),
                   world.clock.steady_now() - start);
        if (!answer) {
            silent = answer.error();
        }
    }
}

/// "mirrordisk-support-alpha-20260301T123305Z"
std::string folder_name(const Known& known, WallTime now) {
    std::string time =
        format_rfc3339(now).substr(0, std::string_view("2026-03-01T12:33:05").size());
    time.erase(std::remove_if(time.begin(), time.end(),
                              [](char byte) { return byte == '-' || byte == ':'; }),
               time.end());
    return fmt::format("mirrordisk-support-{}-{}Z", known.node.name, time);
}

void print_text(const Bundle& bundle, const std::string& path, std::uint64_t bytes, World& world) {
    for (const Bundle::LeftOut& part : bundle.left_out()) {
        world.out << fmt::format("left out: {}: {}\n", part.name, printable(part.why));
    }
    world.out << fmt::format(
        "{}: {} parts, {}\n"
        "It has no keys, but names, addresses, paths and logs: look at it before you pass it on.\n",
        printable(path), bundle.parts(), format_size(bytes));
}

void print_as_json(const Bundle& bundle, const std::string& path, std::uint64_t bytes,
                   World& world) {
    Json left_out = Json::array();
    for (const Bundle::LeftOut& part : bundle.left_out()) {
        left_out.push_back({{"name", part.name}, {"why", part.why}});
    }
    print_json({{"ok", true},
                {"file", path},
                {"bytes", bytes},
                {"parts", bundle.parts()},
                {"left_out", std::move(left_out)}},
               world);
}

}  // namespace

int support(const Options& options, const std::string& config_path, World& world) {
    const Known known = what_is_known(options, config_path);
    const std::string folder = folder_name(known, world.clock.wall_now());
    const std::string path = options.output.empty() ? folder + ".tar.gz" : options.output;
    if (std::error_code code;
        std::filesystem::exists(std::filesystem::symlink_status(path, code))) {
        return report(Error{ErrorKind::refused, fmt::format("{} exists already", path),
                            "give another name: --output FILE"},
                      options, world);
    }
    Bundle bundle(world);
    take_configuration(bundle, config_path, known.tls);
    if (!known.problem.empty()) {
        bundle.add("config/problem.txt", known.problem + '\n');
    }
    ask_mirrord(bundle, known, world);
    take_node(bundle, known.node);
    take_machine(bundle);
    if (auto written = write_archive(path, bundle.tar(folder)); !written) {
        return report(written.error(), options, world);
    }
    struct stat file {};
    const std::uint64_t bytes =
        ::stat(path.c_str(), &file) == 0 ? static_cast<std::uint64_t>(file.st_size) : 0;
    if (options.json) {
        print_as_json(bundle, path, bytes, world);
    } else {
        print_text(bundle, path, bytes, world);
    }
    return exit_done;
}

}  // namespace mirror::tools
