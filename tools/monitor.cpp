// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "core/base/json.hpp"
#include "tools/monitor_line.hpp"
#include "tools/time_limit.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {
namespace {

Result<Json> ask_status(Session& session, std::chrono::milliseconds patience) {
    const std::string& volume = session.options.volume;
    if (volume.empty()) {
        return ask_status_of_all(session.client, patience);
    }
    return session.client.ask({{"request", "status"}, {"volume", volume}}, patience);
}

}  // namespace

int check_for_monitor(Session& session) {
    // What is known when the time is nearly over is worth more than that something was not asked.
    constexpr std::chrono::milliseconds to_print{500};
    const Clock& clock = session.world.clock;
    const auto patience = patience_of(session.options, monitor_deadline);
    const SteadyTime start = clock.steady_now();
    const Result<Json> status = ask_status(session, patience);
    std::optional<Result<Json>> check;
    if (status && session.options.volume.empty()) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            patience - (clock.steady_now() - start) - to_print);
        check = left.count() > 0
                    ? session.client.ask({{"request", "check"}}, left)
                    : Result<Json>(fail(
                          ErrorKind::timed_out, "the status alone took {}",
                          format_seconds(
                              std::chrono::duration<double>(clock.steady_now() - start).count())));
    }
    const MonitorLine line = monitor_line(status, check);
    end_time_limit();
    session.world.out << line.text << '\n' << std::flush;
    return line.code;
}

}  // namespace mirror::tools
