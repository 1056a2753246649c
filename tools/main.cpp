// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <csignal>
#include <exception>
#include <iostream>
#include <string_view>
#include <thread>
#include <unistd.h>

#include "core/base/units.hpp"
#include "core/config/mistakes.hpp"
#include "core/config/this_node.hpp"
#include "tools/command_line.hpp"
#include "tools/init.hpp"
#include "tools/monitor_line.hpp"
#include "tools/support/support.hpp"
#include "tools/time_limit.hpp"
#include "tools/verbs.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

World make_world(const Options& options) {
    const Terminal terminal = Terminal::of(STDOUT_FILENO, options.no_colour);
    return World{.out = std::cout,
                 .err = std::cerr,
                 .in = std::cin,
                 .terminal = terminal,
                 .can_ask = terminal.is_tty && ::isatty(STDIN_FILENO) == 1,
                 .clock = system_clock(),
                 .pause = [](std::chrono::milliseconds time) {
                     std::this_thread::sleep_for(time);
                     return std::cout.good();
                 }};
}

/// Whatever a monitor's check waits for, it ends in time, and says that it found nothing out.
void limit_time_for_monitor(const Options& options) {
    const auto patience = patience_of(options, monitor_deadline);
    const MonitorLine line = monitor_unknown_line(
        fmt::format("no result within {}: mirrord does not answer, or this machine hangs",
                    format_duration(patience)));
    limit_time(patience, line.text, line.code);
}

/// For `status` 1 and 2 say something about volumes: what went wrong before is "not found out".
int report_setup(const Error& error, const Options& options, World& world) {
    if (options.nagios) {
        const MonitorLine line = monitor_unknown_line(error.text());
        world.out << line.text << '\n';
        return line.code;
    }
    const int code = report(error, options, world);
    return options.verb == "status" ? exit_unknown : code;
}

int run(const Options& options) {
    World world = make_world(options);
    if (options.nagios) {
        limit_time_for_monitor(options);
    }
    const std::string path = config_path(options.config);
    if (options.verb == "init") {
        return init(options, path, world);
    }
    if (options.verb == "support") {
        return support(options, path, world);  // also with a configuration that is wrong
    }
    const auto config = read_config_file(path);
    if (!config && ((options.verb == "check" && !options.nagios) || options.verb == "reload")) {
        const int code = report_mistakes(config.error(), path, options, world);
        if (options.verb == "reload") {
            world.err
                << "mirrorctl: the file was not read; the current configuration stays in force\n";
        }
        return code;
    }
    if (!config) {
        if (options.verb == "version" && !options.json) {
            world.out << "mirrorctl " MIRROR_VERSION "\n";
        }
        return report_setup(as_one_error(config.error()), options, world);
    }
    const auto node = this_node(*config, options.node);
    if (!node) {
        return report_setup(node.error(), options, world);
    }
    DaemonClient client(**node, config->control_group);
    Session session{options, *config, **node, path, client, world};
    return run_verb(session);
}

/// A monitor takes 2 for CRITICAL: its own mistakes are not the volumes'.
int usage_code(int argc, const char* const* argv) {
    const bool is_for_monitor = std::any_of(
        argv, argv + argc, [](const char* word) { return std::string_view(word) == "--nagios"; });
    if (!is_for_monitor) {
        return exit_usage;
    }
    const MonitorLine line = monitor_unknown_line("mirrorctl was called with wrong arguments");
    std::cout << line.text << '\n';
    return line.code;
}

}  // namespace

int main(int argc, char** argv) {
    // A reader of our output that goes away ends us quietly, as with any filter.
    std::signal(SIGPIPE, SIG_DFL);
    try {
        const auto parsed = parse_command_line(argc, argv, std::cout, std::cerr);
        if (const int* code = std::get_if<int>(&parsed)) {
            return *code == exit_done ? exit_done : usage_code(argc, argv);
        }
        return run(std::get<Options>(parsed));
    } catch (const std::exception& error) {
        std::cerr << "mirrorctl: " << error.what() << '\n';
        return exit_refused;
    }
}
