// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl init on the first node.
#include "tools/init.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/put_file.hpp"
#include "core/config/this_node.hpp"
#include "core/tls/psk_file.hpp"
#include "tools/key_plan.hpp"

namespace mirror::tools {
namespace {

std::string likely_name(const Options& options) {
    if (!options.node.empty()) {
        return options.node;
    }
    if (const char* const chosen = std::getenv("MIRRORDISK_NODE"); chosen != nullptr && *chosen) {
        return chosen;
    }
    std::array<char, 256> host{};
    const bool is_known = ::gethostname(host.data(), host.size() - 1) == 0;
    const std::string name = is_known ? host.data() : "";
    return name.substr(0, name.find('.'));
}

Result<InitPlan> plan_of(const Options& options, World& world) {
    InitPlan plan;
    const std::uint16_t port = options.port.value_or(usual_port);
    for (const std::string& words : options.members) {
        auto member = parse_member(words, port);
        if (!member) {
            return Failure(member.error());
        }
        plan.members.push_back(std::move(*member));
    }
    for (const std::string& words : options.volumes) {
        auto volume = parse_volume(words);
        if (!volume) {
            return Failure(volume.error());
        }
        plan.volumes.push_back(std::move(*volume));
    }
    if (plan.members.size() > 2) {
        return Failure(
            Error{ErrorKind::invalid, "mirrorctl init sets up a pair of nodes",
                  "add further nodes to the file that it writes; see mirrordisk.toml(5)"});
    }
    if (world.can_ask && !options.json) {
        if (auto asked = ask_for_plan(plan, options, likely_name(options), world); !asked) {
            return Failure(asked.error());
        }
    }
    complete(plan, options.folder);
    if (const auto missing = missing_in(plan); !missing.empty()) {
        return Failure(Error{ErrorKind::invalid,
                             fmt::format("still to be said: {}", fmt::join(missing, "; ")),
                             "such as: mirrorctl init --member alpha=10.0.0.1 --member "
                             "beta=10.0.0.2 --volume r0,size=10GiB; on a terminal it asks"});
    }
    return plan;
}

/// What is wrong with what was said, without the place in a file that nobody has seen.
Mistakes without_places(Mistakes mistakes, const std::string& path) {
    for (Mistake& mistake : mistakes) {
        mistake.error = {mistake.error.kind, words_of(mistake, path)};
        mistake.line = 0;
    }
    return mistakes;
}

/// What is to be done, and what was.
struct Setup {
    ConfigFile file;
    Config config;
    std::string node;
    std::string peer;
    std::string key_path;
    bool has_keys = false;  ///< they were there already
    std::vector<std::string> keys;
    std::vector<std::string> warnings;
};

std::vector<std::string> names_of(const tls::PskKeys& keys) {
    std::vector<std::string> names;
    std::transform(keys.begin(), keys.end(), std::back_inserter(names),
                   [](const tls::PskKey& key) { return key.name; });
    return names;
}

bool is_there(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0;
}

/// Those that are there stay: another node may have them.
Result<void> look_for_keys(Setup& setup) {
    if (setup.config.tls.mode != TlsMode::psk || !is_there(setup.key_path)) {
        return {};
    }
    const auto keys = tls::read_psk_file(setup.key_path);
    if (!keys) {
        return Failure(keys.error());
    }
    const bool is_both_ways = tls::key_towards(*keys, {setup.node, setup.peer}) != nullptr &&
                              tls::key_towards(*keys, {setup.peer, setup.node}) != nullptr;
    if (!is_both_ways) {
        return Failure(Error{
            ErrorKind::refused,
            fmt::format("{} has no keys of {} with {}", setup.key_path, setup.node, setup.peer),
            "take the file away if no other node uses it; or see KEYS in mirrord(8)"});
    }
    setup.has_keys = true;
    setup.keys = names_of(*keys);
    return {};
}

Result<Setup> prepare(const std::string& text, const Config& config, const Options& options) {
    const auto node = this_node(config, options.node);
    if (!node) {
        return Failure(node.error());
    }
    Setup setup{.file = {},
                .config = config,
                .node = (*node)->name,
                .peer = {},
                .key_path = config.tls.psk_file,
                .keys = {},
                .warnings = {}};
    for (const auto& [name, each] : config.nodes) {
        setup.peer = name == setup.node ? setup.peer : name;
    }
    auto file = compare_config(config.path, text);
    if (!file) {
        return Failure(file.error());
    }
    setup.file = std::move(*file);
    if (auto found = look_for_keys(setup); !found) {
        return Failure(found.error());
    }
    if (const std::string why = why_not_own_address((*node)->address); !why.empty()) {
        setup.warnings.push_back(fmt::format("the address of {}: {}", setup.node, why));
    }
    return setup;
}

Result<void> carry_out(Setup& setup) {
    if (!setup.has_keys && setup.config.tls.mode == TlsMode::psk) {
        // Before the configuration: a pair without keys would start, and refuse itself.
        const std::string folder = std::filesystem::path(setup.key_path).parent_path().string();
        auto plan = plan_first({setup.node, {setup.peer}});
        if (!plan) {
            return Failure(plan.error());
        }
        auto written = make_folder(folder, 0755).and_then([&] {
            return tls::write_psk_file(setup.key_path, plan->keys);
        });
        if (!written) {
            return written;
        }
        setup.keys = names_of(plan->keys);
    }
    return setup.file.is_the_same ? Result<void>() : write_config(setup.file);
}

std::string command_with(const Options& options, const std::string& path,
                         const std::string& words) {
    return fmt::format("mirrorctl {}{}", words,
                       options.config.empty() ? "" : fmt::format(" --config {}", path));
}

std::vector<std::pair<std::string, std::string>> firewall_lines(const Setup& setup) {
    const Endpoint& own = setup.config.nodes.at(setup.node).address;
    const Endpoint& peer = setup.config.nodes.at(setup.peer).address;
    const Firewall firewall = firewall_here();
    if (firewall == Firewall::unknown) {
        return {};
    }
    return {{setup.node, firewall_command(firewall, own, peer)},
            {setup.peer, firewall_command(firewall, peer, own)}};
}

/// "on alpha" → commands, in the order in which they are to be typed.
using Steps = std::vector<std::pair<std::string, std::string>>;

Steps steps_left(const Setup& setup, const Options& options) {
    const std::string& path = setup.file.path;
    Steps steps = firewall_lines(setup);
    steps.emplace_back(setup.node, command_with(options, path, "init --show-join"));
    steps.emplace_back(setup.peer, command_with(options, path, "init --join"));
    steps.emplace_back("both", "systemctl enable --now mirrord");
    steps.emplace_back(setup.node, command_with(options, path, "check"));
    for (const auto& [name, volume] : setup.config.volumes) {
        steps.emplace_back(setup.node, command_with(options, path, "create " + name));
        steps.emplace_back(setup.node, command_with(options, path, "promote " + name));
    }
    return steps;
}

void print_steps(const Setup& setup, const Options& options, World& world) {
    const Steps steps = steps_left(setup, options);
    std::size_t width = std::string("on both").size();
    for (const auto& [where, command] : steps) {
        width = std::max(width, where.size() + 3);
    }
    const std::string pipe = fmt::format(
        "mirrorctl init --show-join | ssh {} sudo mirrorctl init "
        "--join",
        setup.config.nodes.at(setup.peer).address.host);
    world.out << "next:\n";
    for (const auto& [where, command] : steps) {
        world.out << fmt::format("  {:<{}}  {}\n", where == "both" ? "on both" : "on " + where,
                                 width, command);
        if (command.find("--join") != std::string::npos && where == setup.peer) {
            world.out << fmt::format(
                "  {:<{}}  (paste there what the line before printed; or with "
                "ssh: {})\n",
                "", width, pipe);
        }
    }
    if (firewall_lines(setup).empty()) {
        world.out << fmt::format("a firewall between {} and {} must let TCP port {} through\n",
                                 setup.node, setup.peer,
                                 setup.config.nodes.at(setup.node).address.port);
    }
}

bool has_work(const Setup& setup) {
    const bool lacks_keys = setup.config.tls.mode == TlsMode::psk && !setup.has_keys;
    return lacks_keys || !setup.file.is_the_same;
}

std::string done_words(const Setup& setup, bool had_work, bool dry_run) {
    const std::string& path = setup.file.path;
    if (!had_work) {
        return fmt::format("nothing to do: {} says this already, and the keys are in {}", path,
                           setup.key_path);
    }
    std::string text = setup.file.is_the_same
                           ? fmt::format("{} says this already", path)
                           : fmt::format("{} {}", dry_run ? "would write" : "wrote", path);
    if (setup.config.tls.mode == TlsMode::psk) {
        text += setup.has_keys ? fmt::format("; the keys in {} stay", setup.key_path)
                : dry_run      ? fmt::format("; would make the keys of both in {}", setup.key_path)
                          : fmt::format("; made the keys {} in {}", fmt::join(setup.keys, ", "),
                                        setup.key_path);
    }
    return text;
}

Json encode_steps(const Steps& steps) {
    Json list = Json::array();
    for (const auto& [where, command] : steps) {
        list.push_back({{"node", where}, {"command", command}});
    }
    return list;
}

int tell(const Setup& setup, bool had_work, const Options& options, World& world) {
    const std::string done = done_words(setup, had_work, options.dry_run);
    if (options.json) {
        print_json({{"ok", true},
                    {"text", done},
                    {"changed", had_work && !options.dry_run},
                    {"dry_run", options.dry_run},
                    {"node", setup.node},
                    {"peer", setup.peer},
                    {"path", setup.file.path},
                    {"config", setup.file.text},
                    {"lost", setup.file.is_the_same ? Json::array() : Json(setup.file.lost)},
                    {"psk_file", setup.key_path},
                    {"keys", setup.keys},
                    {"warnings", setup.warnings},
                    {"next", encode_steps(steps_left(setup, options))}},
                   world);
        return exit_done;
    }
    if (options.dry_run) {
        world.out << setup.file.text << '\n';
    }
    world.out << done << '\n';
    if (!setup.file.is_the_same) {
        for (const std::string& line : setup.file.lost) {
            world.out << fmt::format("{}: {}\n", options.dry_run ? "would go" : "gone",
                                     printable(line));
        }
        if (setup.file.exists && !options.dry_run) {
            world.out << fmt::format("the old one is {}.old\n", setup.file.path);
        }
    }
    for (const std::string& warning : setup.warnings) {
        world.out << fmt::format("warning: {}\n", warning);
    }
    print_steps(setup, options, world);
    return exit_done;
}

/// Nobody is asked for what would be refused.
Result<void> require_words_for(const std::string& path, const Options& options) {
    if (!options.members.empty() || !options.volumes.empty() || options.force || !is_there(path)) {
        return {};
    }
    return Failure(Error{ErrorKind::refused, fmt::format("{} exists: this node is set up", path),
                         "the other node joins with what mirrorctl init --show-join prints; after "
                         "a change of the file: mirrorctl reload; to begin again: --force"});
}

}  // namespace

int init(const Options& options, const std::string& given, World& world) {
    const std::string path = std::filesystem::absolute(given).string();
    if (options.join || options.show_join) {
        return options.join ? init_join(options, path, world)
                            : init_show_join(options, path, world);
    }
    if (auto fresh = require_words_for(path, options); !fresh) {
        return report(fresh.error(), options, world);
    }
    const auto plan = plan_of(options, world);
    if (!plan) {
        return report(plan.error(), options, world);
    }
    const std::string text = config_text(*plan);
    const auto config = read_config(text, path);
    if (!config) {
        return report_mistakes(without_places(config.error(), path), "what init would write",
                               options, world);
    }
    auto setup = prepare(text, *config, options);
    if (!setup) {
        return report(setup.error(), options, world);
    }
    if (auto allowed = require_replaceable(setup->file, options.force || options.dry_run);
        !allowed) {
        return report(allowed.error(), options, world);
    }
    const bool had_work = has_work(*setup);
    if (!options.dry_run) {
        if (auto done = carry_out(*setup); !done) {
            return report(done.error(), options, world);
        }
    }
    return tell(*setup, had_work, options, world);
}

}  // namespace mirror::tools
