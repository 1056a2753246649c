// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/event_hooks.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "core/base/foreign_text.hpp"
#include "core/base/id.hpp"
#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/base/put_file.hpp"
#include "core/base/trusted_file.hpp"
#include "core/config/own_names.hpp"
#include "core/control/json_text.hpp"
#include "daemon/child.hpp"

namespace mirror::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view test_event = "test";
/// Not handed to programs: one that always fails would be run for its own failures for ever.
constexpr std::string_view failed_event = "event-hook-failed";
constexpr std::string_view dropped_event = "event-hooks-late";
constexpr std::size_t cursor_limit = 16 * 1024;

std::string text_of(const Json& event, const char* name) {
    const auto found = event.find(name);
    return found != event.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::uint64_t number_of(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

Json encode(const EventPosition& position, const std::vector<std::string>& done) {
    return {{"inode", position.inode},
            {"offset", position.offset},
            {"line_bytes", position.line_bytes},
            {"mark", position.mark},
            {"done", done}};
}

EventPosition position_in(const Json& cursor) {
    return {.inode = number_of(cursor, "inode"),
            .offset = number_of(cursor, "offset"),
            .line_bytes = number_of(cursor, "line_bytes"),
            .mark = static_cast<std::uint32_t>(number_of(cursor, "mark"))};
}

std::vector<std::string> done_in(const Json& cursor) {
    std::vector<std::string> names;
    const auto found = cursor.find("done");
    if (found != cursor.end() && found->is_array()) {
        for (const Json& name : *found) {
            if (name.is_string()) {
                names.push_back(name.get<std::string>());
            }
        }
    }
    return names;
}

std::string name_of(const std::string& program) {
    return fs::path(program).filename().string();
}

bool has(const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string event_hook_folder(const std::string& config_path) {
    return (fs::path(config_path).parent_path() / "events.d").string();
}

std::vector<std::string> event_environment(const Json& event, const Context& context) {
    // The kernel takes 128 KiB a variable; nobody reads as much as this.
    constexpr std::size_t longest = 4096;
    const std::string volume = text_of(event, "volume");
    const Config& used = context.used();
    const auto config = used.volumes.find(volume);
    const std::string peer =
        config == used.volumes.end() ? "" : config->second.peer_of(context.node.name);
    std::vector<std::string> environment = clean_environment();
    for (const auto& [name, value] : std::initializer_list<std::pair<const char*, std::string>>{
             {"EVENT", text_of(event, "id")},
             {"SEVERITY", text_of(event, "severity")},
             {"VOLUME", volume},
             {"TEXT", text_of(event, "text")},
             {"CAUSE", text_of(event, "cause")},
             {"REMEDY", text_of(event, "remedy")},
             {"TIME", text_of(event, "time")},
             {"NODE", context.node.name},
             {"PEER", peer},
             {"CONFIG", used.path}}) {
        environment.push_back(
            fmt::format("MIRRORDISK_{}={}", name, without_controls(value.substr(0, longest), ' ')));
    }
    return environment;
}

EventHooks::EventHooks(const Context& context, EventHookLimits limits)
    : context_(context),
      limits_(limits),
      folder_(event_hook_folder(context.config.path)),
      cursor_path_(fmt::format("{}/{}", context.node.state_dir, own_names::events_cursor)),
      stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      follower_(context.events.path()) {}

void EventHooks::find_place() {
    const auto text = read_own_file(cursor_path_, cursor_limit);
    Result<bool> found = true;
    if (!text && text.error().kind == ErrorKind::not_found) {
        found = follower_.go_to_end().map([] { return true; });
    } else {
        // A cursor that can't be read is one that was there: from the oldest event on.
        const Json cursor = text ? control::parse_shallow(*text) : Json();
        found = cursor.is_object() ? follower_.go_to(position_in(cursor)) : Result<bool>(false);
        if (found && *found) {
            done_ = done_in(cursor);
        }
    }
    if (!found || !*found) {
        log(LogLevel::warning,
            "{} does not lead to a place in the event log: the programs in {} are run from the "
            "oldest event on{}",
            cursor_path_, folder_, found ? "" : ": " + found.error().message);
    }
    passed_ = follower_.position();
    save();
}

Result<void> EventHooks::start() {
    if (!stop_.is_open()) {
        return fail_errno(EMFILE, "watching the event log");
    }
    watch_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (watch_.is_open() &&
        ::inotify_add_watch(watch_.get(), context_.node.state_dir.c_str(),
                            IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) < 0) {
        watch_.reset();
    }
    return start_thread(thread_, "event-hooks", [this] { run(); });
}

void EventHooks::stop() {
    stopping_ = true;
    const std::uint64_t one = 1;
    if (stop_.is_open()) {
        (void)!::write(stop_.get(), &one, sizeof one);
    }
    {
        const MutexLock lock(mutex_);
        test_changed_.notify_all();
    }
    if (thread_.joinable()) {
        thread_.join();
    }
}

void EventHooks::run() {
    while (!is_stopping()) {
        take_new();
        if (waiting_.empty()) {
            wait_for_more();
            continue;
        }
        const HookFolder found = hooks();
        if (found.hooks.empty()) {  // who comes later is told of what happens then
            for (const Waiting& each : waiting_) {
                end_test(control::parse_shallow(each.line));
            }
            pass(waiting_.back().end);
            waiting_.clear();
        } else if (hand_out(waiting_.front(), found.hooks)) {
            pass(waiting_.front().end);
            waiting_.pop_front();
        }
    }
}

void EventHooks::take_new() {
    const auto read = follower_.read_new([this](std::string_view line, const EventPosition& end) {
        waiting_.push_back({std::string(line), end});
        // So that a long log is not in memory as a whole; what is dropped is told below.
        if (waiting_.size() > 4 * limits_.most_waiting) {
            drop_oldest();
        }
    });
    const std::string trouble = read ? std::string() : read.error().text();
    if (!trouble.empty() && trouble != trouble_) {
        log(LogLevel::warning, "the event log can't be read for the programs in {}: {}", folder_,
            trouble);
    }
    trouble_ = trouble;
    if (waiting_.size() > limits_.most_waiting) {
        drop_oldest();
    }
}

/// Half of what may wait stays, so that this is no matter of each event.
void EventHooks::drop_oldest() {
    const std::size_t dropped = waiting_.size() - limits_.most_waiting / 2;
    const auto last = waiting_.begin() + static_cast<std::ptrdiff_t>(dropped);
    const bool is_anybody_late = !list_hooks(folder_).hooks.empty();
    const Json newest = control::parse_shallow(std::prev(last)->line);
    pass(std::prev(last)->end);
    waiting_.erase(waiting_.begin(), last);
    if (is_anybody_late) {
        context_.events.record(
            {std::string(dropped_event), Severity::warning, "",
             fmt::format("{} events were not handed to the programs in {}, up to one of {}",
                         dropped, folder_,
                         newest.is_object() ? text_of(newest, "time") : std::string("unknown")),
             "they take longer than events come",
             "mirrorctl events has them; mirrorctl events --test-hooks shows how long each takes"});
    }
}

void EventHooks::wait_for_more() {
    constexpr std::chrono::milliseconds without_watch{1000};
    // Should the kernel not tell of something (a network filesystem).
    constexpr std::chrono::milliseconds with_watch{60000};
    std::array<pollfd, 2> watched{pollfd{stop_.get(), POLLIN, 0},
                                  pollfd{watch_.is_open() ? watch_.get() : -1, POLLIN, 0}};
    (void)::poll(watched.data(), watched.size(),
                 static_cast<int>((watch_.is_open() ? with_watch : without_watch).count()));
    std::array<char, 4096> told{};
    while (watch_.is_open() && ::read(watch_.get(), told.data(), told.size()) > 0) {
    }
}

HookFolder EventHooks::hooks() {
    HookFolder found = list_hooks(folder_);
    if (found.problems != told_problems_) {
        for (const std::string& problem : found.problems) {
            if (!has(told_problems_, problem)) {
                context_.events.record({std::string(failed_event), Severity::warning, "",
                                        "a program is not run for events", problem,
                                        "mirrorctl check"});
            }
        }
        told_problems_ = found.problems;
    }
    return found;
}

/// False: it was cut short, and the next mirrord goes on with it.
bool EventHooks::hand_out(const Waiting& waiting, const std::vector<std::string>& programs) {
    const Json event = control::parse_shallow(waiting.line);
    if (!event.is_object() || text_of(event, "id") == failed_event) {
        return true;
    }
    for (const std::string& program : programs) {
        const std::string name = name_of(program);
        if (has(done_, name)) {
            continue;
        }
        const auto outcome = is_stopping() ? std::nullopt : run_one(program, event, waiting.line);
        if (!outcome) {
            return false;
        }
        note(*outcome, event);
        done_.push_back(name);
        save();
    }
    end_test(event);
    return true;
}

std::optional<EventHooks::Outcome> EventHooks::run_one(const std::string& program,
                                                       const Json& event, const std::string& line) {
    Outcome outcome{.name = name_of(program)};
    const auto begin = std::chrono::steady_clock::now();
    const auto end = run_child({program, text_of(event, "id")}, event_environment(event, context_),
                               limits_.one_run, {.input = line + '\n', .hurry = stop_.get()});
    outcome.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (end && !end->in_time && end->was_hurried) {
        return {};
    }
    outcome.succeeded = end && end->succeeded();
    outcome.how = end ? end->words(limits_.one_run) : end.error().message;
    outcome.output = end ? end->last_words() : std::string();
    return outcome;
}

/// One event a minute at most: a program that always fails is not to fill the log.
void EventHooks::note(const Outcome& outcome, const Json& event) {
    if (is_tested(event)) {
        const MutexLock lock(mutex_);
        if (test_) {
            test_->outcomes.push_back(outcome);
        }
        return;
    }
    if (outcome.succeeded) {
        return;
    }
    const SteadyTime now = context_.clock.steady_now();
    if (complained_at_ != SteadyTime{} && now - complained_at_ < limits_.between_complaints) {
        ++complaints_kept_back_;
        return;
    }
    complained_at_ = now;
    const std::string others =
        complaints_kept_back_ == 0
            ? std::string()
            : fmt::format(" (and {} failed before it)", complaints_kept_back_);
    complaints_kept_back_ = 0;
    context_.events.record(
        {std::string(failed_event), Severity::warning, text_of(event, "volume"),
         fmt::format("{} failed for the event {}{}", outcome.name, text_of(event, "id"), others),
         fmt::format("{}{}{}", outcome.how, outcome.output.empty() ? "" : ": ", outcome.output),
         "mirrorctl events --test-hooks"});
}

void EventHooks::pass(const EventPosition& end) {
    passed_ = end;
    done_.clear();
    save();
}

void EventHooks::save() const {
    if (auto put = put_file(cursor_path_, encode(passed_, done_).dump() + '\n', 0600); !put) {
        log(LogLevel::debug, "how far the programs in {} have got was not recorded: {}", folder_,
            put.error().text());
    }
}

bool EventHooks::is_tested(const Json& event) {
    const MutexLock lock(mutex_);
    return test_ && event.is_object() && text_of(event, "id") == test_event &&
           text_of(event, "cause") == test_->token;
}

void EventHooks::end_test(const Json& event) {
    if (!is_tested(event)) {
        return;
    }
    const MutexLock lock(mutex_);
    if (test_) {
        test_->is_over = true;
        test_changed_.notify_all();
    }
}

Result<Json> EventHooks::test(const std::string& volume, std::chrono::milliseconds patience) {
    const std::string token = fmt::format("test {}", short_form(random_id<SessionId>()));
    {
        const MutexLock lock(mutex_);
        if (test_) {
            return fail(ErrorKind::busy, "another test of the programs in {} is under way",
                        folder_);
        }
        test_ = Test{.token = token, .outcomes = {}};
    }
    context_.events.record({std::string(test_event), Severity::info, volume,
                            fmt::format("a test of the programs in {}", folder_), token});
    const auto deadline = std::chrono::steady_clock::now() + patience;
    MutexLock lock(mutex_);
    while (!test_->is_over && !is_stopping()) {
        if (test_changed_.wait_until(lock, deadline) == std::cv_status::timeout) {
            break;
        }
    }
    const Test done = std::move(*test_);
    test_.reset();
    lock.unlock();
    if (!done.is_over) {
        return Failure(
            Error{ErrorKind::timed_out,
                  fmt::format("the programs in {} were not run for the test within {}", folder_,
                              format_duration(patience)),
                  "they are busy with earlier events, or the event log can't be written: mirrorctl "
                  "events"});
    }
    Json hooks = Json::array();
    for (const Outcome& outcome : done.outcomes) {
        hooks.push_back({{"name", outcome.name},
                         {"succeeded", outcome.succeeded},
                         {"how", outcome.how},
                         {"output", outcome.output},
                         {"seconds", outcome.seconds}});
    }
    return Json{{"folder", folder_},
                {"hooks", std::move(hooks)},
                {"problems", list_hooks(folder_).problems}};
}

}  // namespace mirror::daemon
