// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <chrono>
#include <map>

#include <fmt/format.h>

#include "core/base/foreign_text.hpp"
#include "core/base/json.hpp"
#include "core/control/json_text.hpp"
#include "tools/events_file.hpp"
#include "tools/events_view.hpp"
#include "tools/gaps_view.hpp"
#include "tools/progress.hpp"
#include "tools/status_view.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {
namespace {

constexpr std::chrono::milliseconds look_interval{500};
constexpr std::chrono::milliseconds events_interval{250};

Result<Json> ask_status(Session& session) {
    if (session.options.volume.empty()) {
        return ask_status_of_all(session.client, query_deadline);
    }
    return session.client.ask({{"request", "status"}, {"volume", session.options.volume}},
                              query_deadline);
}

const Json& volume_in(const Json& status, const std::string& name) {
    static const Json nothing;
    for (const Json& volume : part_field(status, "volumes")) {
        if (text_field(volume, "name") == name) {
            return volume;
        }
    }
    return nothing;
}

bool is_silence(const Error& error) {
    return error.kind == ErrorKind::unreachable || error.kind == ErrorKind::timed_out;
}

/// Overwrites the screen from its top, without the flicker of clearing it first.
void redraw(const std::string& text, std::ostream& out) {
    std::string drawn = "\x1b[H";
    for (const char byte : text) {
        drawn += byte == '\n' ? "\x1b[K\n" : std::string(1, byte);
    }
    out << drawn << "\x1b[J" << std::flush;
}

/// One line that a terminal keeps in place and a pipe gets at each change.
class LiveLine {
  public:
    explicit LiveLine(World& world) : world_(world) {}
    ~LiveLine() { finish(); }
    LiveLine(const LiveLine&) = delete;
    LiveLine& operator=(const LiveLine&) = delete;

    void show(const Json& volume) {
        if (world_.terminal.is_tty) {
            draw(one_line(volume));
        } else if (const auto line = changes_.next(volume)) {
            world_.out << *line << '\n' << std::flush;
        }
    }

    void show_silence(const Error& error) {
        if (world_.terminal.is_tty) {
            draw(printable(error.message));
        } else if (!silent_) {
            world_.out << printable(error.text()) << '\n' << std::flush;
        }
        silent_ = true;
    }

    void end_silence() { silent_ = false; }

    /// Moves on from the line, so that what is printed next starts on its own.
    void finish() {
        if (drawn_) {
            world_.out << '\n' << std::flush;
        }
        drawn_ = false;
    }

  private:
    [[nodiscard]] std::string one_line(const Json& volume) const {
        const std::string start =
            fmt::format("{}: {} ", text_field(volume, "name"), text_field(volume, "state"));
        const auto resync = resync_of(volume);
        if (!resync) {
            return start + text_field(volume, "why");
        }
        const std::size_t taken = display_width(start);
        const std::size_t width = world_.terminal.width;
        return start + progress_bar(*resync, width > taken ? width - taken : 0);
    }

    void draw(const std::string& line) {
        world_.out << '\r' << cut_to(line, world_.terminal.width) << "\x1b[K" << std::flush;
        drawn_ = true;
    }

    World& world_;
    ChangeLines changes_;
    bool drawn_ = false;
    bool silent_ = false;
};

enum class Look { go_on, reached, hopeless };

/// Looks again and again. `judge` decides about each look; the last error tells what to report
/// when the time is over.
template <typename Judge>
int look_until(Session& session, const std::string& wish,
               std::optional<std::chrono::duration<double>> limit, Judge judge) {
    World& world = session.world;
    LiveLine line(world);
    const SteadyTime start = world.clock.steady_now();
    while (true) {
        const auto answer = ask_status(session);
        if (!answer && !is_silence(answer.error())) {
            line.finish();
            return report(answer.error(), session.options, world);
        }
        Json volume;
        if (answer) {
            volume = volume_in(*answer, session.options.volume);
            line.end_silence();
            if (!session.options.json) {
                line.show(volume);
            }
            const Look look = judge(volume);
            if (look != Look::go_on) {
                line.finish();
                if (session.options.json) {
                    print_json(*answer, world);
                }
                return look == Look::reached ? exit_done : exit_refused;
            }
        } else if (!session.options.json) {
            line.show_silence(answer.error());
        }
        const bool over = limit && world.clock.steady_now() - start >= *limit;
        if (over || !world.pause(look_interval)) {
            line.finish();
            if (!answer) {
                return report(answer.error(), session.options, world);
            }
            return report(
                Error{ErrorKind::refused,
                      fmt::format("volume {} did not become {} in {}: it is {}: {}",
                                  session.options.volume, wish,
                                  format_seconds(limit.value_or(limit->zero()).count()),
                                  text_field(volume, "state"), text_field(volume, "why"))},
                session.options, world);
        }
    }
}

int watch_on_terminal(Session& session) {
    World& world = session.world;
    world.out << "\x1b[2J";
    int code = status_unknown;
    do {
        const auto answer = ask_status(session);
        const WallTime now = world.clock.wall_now();
        std::string text = fmt::format("mirrorctl status, {} (Ctrl-C ends)\n\n", format_local(now));
        if (answer) {
            text += format_status(*answer, {world.terminal, now});
            code = status_exit_code(*answer);
        } else {
            text += world.terminal.paint(Style::bad, printable(answer.error().text())) + '\n';
            code = status_unknown;
        }
        redraw(text, world.out);
    } while (world.pause(2 * look_interval));
    return code;
}

int watch_in_pipe(Session& session) {
    World& world = session.world;
    std::map<std::string, ChangeLines> changes;
    bool silent = false;
    int code = status_unknown;
    do {
        const auto answer = ask_status(session);
        const std::string time = format_rfc3339(world.clock.wall_now());
        if (!answer) {
            if (!silent) {
                world.out << fmt::format("{} {}\n", time, printable(answer.error().text()));
            }
            code = status_unknown;
        } else {
            bool changed = false;
            for (const Json& volume : part_field(*answer, "volumes")) {
                const auto line = changes[text_field(volume, "name")].next(volume);
                changed = changed || line.has_value();
                if (line && !session.options.json) {
                    world.out << fmt::format("{} {}\n", time, *line);
                }
            }
            if (changed && session.options.json) {
                world.out << json_without_controls(
                                 answer->dump(-1, ' ', false, Json::error_handler_t::replace))
                          << '\n';
            }
            code = status_exit_code(*answer);
        }
        silent = !answer;
        world.out.flush();
    } while (world.pause(2 * look_interval));
    return code;
}

void print_event(std::string_view line, const Json& event, const EventFilter& filter,
                 Session& session) {
    if (!event.is_object()) {
        session.world.err << fmt::format("mirrorctl: a line of the event log is not JSON: {}\n",
                                         printable(line.substr(0, 80)));
        return;
    }
    if (!filter.wants(event)) {
        return;
    }
    if (session.options.json) {
        session.world.out << json_without_controls(line) << '\n';
    } else {
        session.world.out << format_event(event, session.world.terminal);
    }
}

}  // namespace

int status(Session& session) {
    const Options& options = session.options;
    World& world = session.world;
    if (options.watch) {
        return world.terminal.is_tty && !options.json ? watch_on_terminal(session)
                                                      : watch_in_pipe(session);
    }
    const auto answer = ask_status(session);
    if (!answer) {
        report(answer.error(), options, world);
        return status_unknown;
    }
    if (options.json) {
        print_json(*answer, world);
    } else {
        world.out << format_status(*answer, {world.terminal, world.clock.wall_now()});
    }
    return status_exit_code(*answer);
}

int wait(Session& session) {
    const Options& options = session.options;
    std::optional<std::chrono::duration<double>> limit;
    if (options.timeout_seconds) {
        limit = std::chrono::duration<double>(*options.timeout_seconds);
    }
    return look_until(session, options.wait_for, limit, [&](const Json& volume) {
        return text_field(volume, "state") == options.wait_for ? Look::reached : Look::go_on;
    });
}

int wait_for_resync(Session& session) {
    // A resync may take a moment to begin; it may also be over before the first look.
    constexpr int looks_before_it_counts = 3;
    bool began = false;
    int looks = 0;
    return look_until(session, "in-sync", std::nullopt, [&](const Json& volume) {
        const std::string state = text_field(volume, "state");
        began = began || state == "resyncing";
        ++looks;
        if (state == "in-sync" && (began || looks >= looks_before_it_counts)) {
            return Look::reached;
        }
        // What can't be read is tried once more at the request; the rest is up to people.
        const bool is_stuck =
            has_gaps(volume) && !resync_of(volume) && (began || looks >= looks_before_it_counts);
        return state == "diverged" || state == "failed" || is_stuck ? Look::hopeless : Look::go_on;
    });
}

int events(Session& session) {
    if (session.options.test_hooks) {
        return test_hooks(session);
    }
    World& world = session.world;
    EventFilter filter{session.options.volume, std::nullopt};
    if (!session.options.since.empty()) {
        const auto since = parse_since(session.options.since, world.clock.wall_now());
        if (!since) {
            report(since.error(), session.options, world);
            return exit_usage;
        }
        filter.since = *since;
    }
    EventsFile file(session.node.state_dir + "/events.jsonl");
    const std::string& volume = session.options.volume;
    // One that was taken out of the configuration has its events still.
    bool is_known = volume.empty() || session.config.volumes.count(volume) != 0;
    const auto sink = [&](std::string_view line) {
        const Json event = control::parse_shallow(line);
        is_known = is_known || (event.is_object() && text_field(event, "volume") == volume);
        print_event(line, event, filter, session);
    };
    auto read = file.read_all(sink);
    if (read && !is_known) {
        report(Error{ErrorKind::not_found,
                     fmt::format("there is no volume {}, and no event of it", printable(volume)),
                     "mirrorctl status lists the volumes"},
               session.options, world);
        return exit_usage;
    }
    world.out.flush();
    while (read && session.options.follow && world.pause(events_interval)) {
        read = file.read_new(sink);
        world.out.flush();
    }
    return read ? exit_done : report(read.error(), session.options, world);
}

}  // namespace mirror::tools
