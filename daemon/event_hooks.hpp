// SPDX-License-Identifier: BSD-3-Clause
// events.d beside the configuration: programs of the administrator that are run for each event of
// this node, whoever recorded it: mail, a pager, a ticket. A thread of its own follows the event
// log, which is the queue, and runs them one after the other; nothing of the mirror ever waits for
// one. How far it got is kept in STATE_DIR/events.cursor, so that an event which an engine wrote
// while mirrord was away reaches them, too: each one at least once, and twice only where mirrord or
// the machine ended while a program ran. Of too many that wait the oldest are dropped, and told.
//
// start(), stop() and test() may be called from any thread, the rest runs in the thread.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/fd.hpp"
#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"
#include "core/events/event_follower.hpp"
#include "daemon/context.hpp"
#include "daemon/hooks.hpp"

namespace mirror::daemon {

/// The folder that belongs to a configuration file.
[[nodiscard]] std::string event_hook_folder(const std::string& config_path);

/// The environment of a program that is run for this event, a line of the log.
[[nodiscard]] std::vector<std::string> event_environment(const Json& event, const Context& context);

struct EventHookLimits {
    std::chrono::milliseconds one_run{30000};
    std::size_t most_waiting = 1000;
    std::chrono::milliseconds between_complaints{60000};
};

class EventHooks {
  public:
    explicit EventHooks(const Context& context, EventHookLimits limits = {});
    ~EventHooks() { stop(); }
    EventHooks(const EventHooks&) = delete;
    EventHooks& operator=(const EventHooks&) = delete;

    /// Before the first event of this run: without a cursor, what is in the log already is old.
    void find_place();
    [[nodiscard]] Result<void> start();
    /// A program that runs has half a second left; the next mirrord runs it again for its event.
    void stop();

    /// Records the event `test` and waits until the programs were run for it: {folder, hooks:
    /// [{name, succeeded, how, output, seconds}], problems}.
    [[nodiscard]] Result<Json> test(const std::string& volume, std::chrono::milliseconds patience)
        EXCLUDES(mutex_);

  private:
    struct Waiting {
        std::string line;
        EventPosition end;
    };
    struct Outcome {
        std::string name;
        bool succeeded = false;
        std::string how{};
        std::string output{};
        double seconds = 0;
    };
    struct Test {
        std::string token;
        std::vector<Outcome> outcomes;
        bool is_over = false;
    };

    void run();
    void take_new();
    void drop_oldest();
    void wait_for_more();
    [[nodiscard]] HookFolder hooks();
    [[nodiscard]] bool hand_out(const Waiting& waiting, const std::vector<std::string>& programs);
    [[nodiscard]] std::optional<Outcome> run_one(const std::string& program, const Json& event,
                                                 const std::string& line);
    void note(const Outcome& outcome, const Json& event) EXCLUDES(mutex_);
    void pass(const EventPosition& end);
    void end_test(const Json& event) EXCLUDES(mutex_);
    [[nodiscard]] bool is_tested(const Json& event) EXCLUDES(mutex_);
    void save() const;
    [[nodiscard]] bool is_stopping() const noexcept { return stopping_; }

    const Context& context_;
    const EventHookLimits limits_;
    const std::string folder_;
    const std::string cursor_path_;
    Fd stop_;  ///< an eventfd that can be read once it is stopping
    std::atomic<bool> stopping_{false};

    // The thread's own; find_place() comes before it.
    EventFollower follower_;
    Fd watch_;  ///< inotify of STATE_DIR; closed: looked at each second
    std::deque<Waiting> waiting_;
    EventPosition passed_;           ///< behind the last event that is done with
    std::vector<std::string> done_;  ///< what was run already for the one behind it
    std::vector<std::string> told_problems_;
    SteadyTime complained_at_{};
    std::uint64_t complaints_kept_back_ = 0;
    std::string trouble_;  ///< with the log or the cursor, as it was told last

    Mutex mutex_;
    CondVar test_changed_;
    std::optional<Test> test_ GUARDED_BY(mutex_);
    Thread thread_;
};

}  // namespace mirror::daemon
