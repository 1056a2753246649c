// SPDX-License-Identifier: BSD-3-Clause
// `mirrorctl verify`: asks for the comparison of one volume, or of all that are active here one
// after the other, and waits for its end.
#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "tools/verbs.hpp"
#include "tools/verify_view.hpp"

namespace mirror::tools {
namespace {

constexpr std::chrono::milliseconds look_interval{500};

/// How it went with one volume; the error, where there is one, is not reported yet.
struct Outcome {
    int code = exit_done;
    Json json{};
    std::optional<Error> error{};
};

Outcome failed(Error error) {
    const bool unknown = error.kind == ErrorKind::unreachable || error.kind == ErrorKind::timed_out;
    return {unknown ? exit_unknown : exit_refused, {}, std::move(error)};
}

/// One line that a terminal keeps in place; a pipe gets one for each tenth.
class ProgressLine {
  public:
    ProgressLine(World& world, std::string volume) : world_(world), volume_(std::move(volume)) {}
    ~ProgressLine() {
        if (drawn_) {
            world_.out << '\n' << std::flush;
        }
    }
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    void show(const Json& verify) {
        const Progress progress = verify_progress(verify);
        const std::string waits = text_field(verify, "waits_for");
        const std::string start = volume_ + ": ";
        if (world_.terminal.is_tty) {
            const std::size_t width = world_.terminal.width;
            const std::size_t taken = display_width(start);
            draw(start + (waits.empty()
                              ? progress_bar(progress, width > taken ? width - taken : 0)
                              : fmt::format("{} %, waits: {}", progress.percent(), waits)));
            return;
        }
        const std::string state = fmt::format("{} {}", progress.percent() / 10, waits);
        if (state != shown_) {
            world_.out << start << progress_words(progress)
                       << (waits.empty() ? "" : "; waits: " + waits) << '\n'
                       << std::flush;
            shown_ = state;
        }
    }
    void show_silence(const std::string& text) {
        if (world_.terminal.is_tty) {
            draw(printable(text));
        } else if (shown_ != text) {
            world_.out << printable(text) << '\n' << std::flush;
            shown_ = text;
        }
    }

  private:
    void draw(const std::string& line) {
        world_.out << '\r' << cut_to(line, world_.terminal.width) << "\x1b[K" << std::flush;
        drawn_ = true;
    }

    World& world_;
    const std::string volume_;
    std::string shown_;
    bool drawn_ = false;
};

Result<Json> ask_volume(Session& session, const std::string& name) {
    auto answer = session.client.ask({{"request", "status"}, {"volume", name}}, query_deadline);
    if (!answer) {
        return answer;
    }
    for (const Json& volume : part_field(*answer, "volumes")) {
        if (text_field(volume, "name") == name) {
            return volume;
        }
    }
    return fail(ErrorKind::not_found, "mirrord did not report volume {}", name);
}

/// Until the comparison that began at `started_at` is over: on another node its record may take a
/// moment to arrive here.
Outcome wait_for_end(Session& session, const std::string& name, const std::string& started_at) {
    World& world = session.world;
    ProgressLine line(world, name);
    while (true) {
        const auto volume = ask_volume(session, name);
        if (!volume) {
            const bool silent = volume.error().kind == ErrorKind::unreachable ||
                                volume.error().kind == ErrorKind::timed_out;
            if (!silent) {
                return failed(volume.error());
            }
            if (!session.options.json) {
                line.show_silence(volume.error().text());
            }
        } else {
            const Json& verify = verify_of(*volume);
            const std::string state = text_field(*volume, "state");
            const bool is_this_one = text_field(verify, "started_at") == started_at;
            if (is_this_one && text_field(verify, "state") != "running") {
                const bool equal =
                    text_field(verify, "state") == "finished" && bytes_left(verify) == 0;
                return {equal ? exit_done : exit_refused, {{"volume", name}, {"verify", verify}}};
            }
            if (state == "diverged" || state == "failed") {
                return failed(Error{ErrorKind::refused,
                                    fmt::format("{} can no longer be compared: it is {}: {}", name,
                                                state, text_field(*volume, "why"))});
            }
            if (is_this_one && !session.options.json) {
                line.show(verify);
            }
        }
        if (!world.pause(look_interval)) {
            return failed(Error{ErrorKind::timed_out, "the wait was interrupted"});
        }
    }
}

void print_plan(const Json& answer, std::ostream& out) {
    for (const Json& sentence : part_field(answer, "would")) {
        if (sentence.is_string()) {
            out << fmt::format("would: {}\n", printable(sentence.get_ref<const std::string&>()));
        }
    }
    if (const auto bytes = count_field(answer, "bytes")) {
        const auto seconds = number_field(answer, "seconds");
        out << fmt::format("cost:  {} to read on each node{}\n", format_size(*bytes),
                           seconds ? ", about " + format_seconds(*seconds) : "");
    }
    out << "nothing was changed (--dry-run)\n";
}

Outcome verify_one(Session& session, const std::string& name,
                   const std::optional<std::uint64_t>& rate) {
    const Options& options = session.options;
    World& world = session.world;
    Json request = {{"request", "verify"},        {"volume", name},
                    {"dry_run", options.dry_run}, {"repair", options.repair},
                    {"stop", options.stop},       {"restart", options.restart}};
    if (rate) {
        request["rate"] = *rate;
    }
    const auto answer = session.client.ask(request, change_deadline);
    if (!answer) {
        return failed(answer.error());
    }
    if (!options.json) {
        if (options.dry_run) {
            print_plan(*answer, world.out);
        } else {
            world.out << text_field(*answer, "text") << '\n' << std::flush;
        }
    }
    if (options.dry_run || options.stop || !options.wait) {
        return {exit_done, *answer};
    }
    Outcome outcome =
        wait_for_end(session, name, text_field(part_field(*answer, "verify"), "started_at"));
    if (!outcome.error && !options.json) {
        world.out << verify_verdict(part_field(outcome.json, "verify"), name);
    }
    return outcome;
}

Json error_object(const Error& error) {
    return {{"kind", to_string(error.kind)}, {"message", error.message}, {"remedy", error.remedy}};
}

int verify_all(Session& session, const std::optional<std::uint64_t>& rate) {
    World& world = session.world;
    const bool json = session.options.json;
    const auto status = ask_status_of_all(session.client, query_deadline);
    if (!status) {
        return report(status.error(), session.options, world);
    }
    Json results = Json::array();
    int worst = exit_done;
    for (const Json& volume : part_field(*status, "volumes")) {
        const std::string name = text_field(volume, "name");
        if (text_field(volume, "role") != "active") {
            continue;
        }
        if (const std::string state = text_field(volume, "state"); state != "in-sync") {
            const std::string why = fmt::format("it is {}: {}", state, text_field(volume, "why"));
            results.push_back({{"volume", name}, {"skipped", why}});
            if (!json) {
                world.out << fmt::format("{}: left out: {}\n", name, why);
            }
            continue;
        }
        Outcome outcome = verify_one(session, name, rate);
        worst = std::max(worst, outcome.code);
        if (outcome.error) {
            outcome.json = {{"volume", name}, {"error", error_object(*outcome.error)}};
            world.out.flush();
            world.err << fmt::format("mirrorctl: {}: {}\n", name, printable(outcome.error->text()));
        }
        results.push_back(std::move(outcome.json));
    }
    if (json) {
        print_json({{"volumes", std::move(results)}}, world);
    } else if (results.empty()) {
        world.out << "no volume is active on this node: nothing to do\n";
    }
    return worst;
}

int usage(World& world, const char* text) {
    world.err << fmt::format("mirrorctl: {}; mirrorctl verify --help\n", text);
    return exit_usage;
}

}  // namespace

int verify(Session& session) {
    const Options& options = session.options;
    World& world = session.world;
    if (options.all == !options.volume.empty()) {
        return usage(world, options.all ? "name a volume or take --all, not both"
                                        : "name a volume, or take --all");
    }
    if (options.stop && (options.repair || options.restart || !options.rate.empty())) {
        return usage(world, "--stop can't be combined with other options");
    }
    std::optional<std::uint64_t> rate;
    if (!options.rate.empty()) {
        const auto parsed = parse_size(options.rate);
        if (!parsed) {
            return usage(world, ("--rate: " + parsed.error().text()).c_str());
        }
        rate = *parsed;
    }
    if (options.all) {
        return verify_all(session, rate);
    }
    const Outcome outcome = verify_one(session, options.volume, rate);
    if (outcome.error) {
        return report(*outcome.error, options, world);
    }
    if (options.json) {
        print_json(outcome.json, world);
    }
    return outcome.code;
}

}  // namespace mirror::tools
