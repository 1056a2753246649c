// SPDX-License-Identifier: BSD-3-Clause
// How long the engine waits before it tries its peer again. To ask a peer that can't be reached
// costs nothing, so that is done often. A session that falls silent soon after it began holds every
// write for peer_timeout, and so would the next one: from then on sessions begin ever more seldom,
// and only after a probe, until one has lasted. A standby whose disk refuses what a resync sends, a
// full one, gets it again ever more seldom, too: each time it is sent much, and logs of both nodes
// fill. Belongs to the peer's thread.
#pragma once

#include <algorithm>
#include <chrono>

namespace mirror {

class RetryDelay {
  public:
    using milliseconds = std::chrono::milliseconds;

    static constexpr milliseconds first{200};
    static constexpr milliseconds longest{5000};
    static constexpr milliseconds first_after_silence{1000};
    static constexpr milliseconds longest_after_silence{30000};
    static constexpr milliseconds first_after_refused{1000};
    static constexpr milliseconds longest_after_refused{60000};
    /// A session that lived so long, and ten times the wait before it, was no failure.
    static constexpr milliseconds lasting{60000};

    /// No session began.
    void failed() noexcept {
        wait_ = std::max({usual_, after_silence_, after_refused_});
        usual_ = std::min(usual_ * 2, longest);
    }
    /// One began and is over. `came_up`: the standby was brought up to date in it; `silent`: it
    /// ended since the peer did not answer, so that writes waited. `refused`: the standby's disk
    /// did not take what was sent to bring it up to date.
    void session_over(milliseconds lived, bool came_up, bool silent,
                      bool refused = false) noexcept {
        const bool lasted = lived >= std::max(lasting, after_silence_ * 10);
        if (lasted) {
            after_silence_ = milliseconds(0);
        }
        if (silent && !lasted) {
            after_silence_ =
                std::clamp(after_silence_ * 2, first_after_silence, longest_after_silence);
        }
        if (!came_up) {
            if (refused) {
                after_refused_ =
                    std::clamp(after_refused_ * 2, first_after_refused, longest_after_refused);
            }
            failed();
            return;
        }
        usual_ = first;
        after_refused_ = milliseconds(0);
        wait_ = after_silence_;
    }
    /// Before the next attempt.
    [[nodiscard]] milliseconds wait() const noexcept { return wait_; }
    /// Whether the next session must not begin before it was seen that as much as a session sends
    /// gets through.
    [[nodiscard]] bool wants_probe() const noexcept { return after_silence_.count() != 0; }

  private:
    milliseconds usual_ = first;
    milliseconds after_silence_{0};
    milliseconds after_refused_{0};
    milliseconds wait_{0};
};

}  // namespace mirror
