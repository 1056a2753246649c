// SPDX-License-Identifier: BSD-3-Clause
// A resync that could not read some blocks of the local disk. The standby gets everything else and
// every write from then on, but is not up to date; an application that writes these blocks anew
// heals it, and now and then they are read again.
#include <algorithm>

#include "core/engine/peer.hpp"

namespace mirror {
namespace {

using std::chrono::milliseconds;

/// In status and in the event of it; the text names fewer.
constexpr std::size_t most_listed = 64;
constexpr std::size_t most_named = 8;

/// How soon it is noticed that an application has written the last of these blocks: its write must
/// not have to tell.
constexpr milliseconds look_period{200};

std::string name_ranges(const Differences::Lacking& lacking) {
    std::string text;
    const std::size_t named = std::min(lacking.ranges.size(), most_named);
    for (std::size_t i = 0; i < named; ++i) {
        const ByteRange& range = lacking.ranges[i];
        text += fmt::format("{}{} at offset {}", i == 0 ? "" : ", ", format_size(range.length),
                            range.offset);
    }
    const std::uint64_t more = lacking.ranges.size() - named + lacking.unlisted;
    return more == 0 ? text : fmt::format("{} and {} more ranges", text, more);
}

}  // namespace

Peer::Incomplete Peer::describe_incomplete() const {
    Incomplete incomplete{parts_.differences.changed_ranges(most_listed),
                          parts_.differences.behind_bytes(), unreadable_cause_, next_try_};
    if (gave_up_) {
        incomplete.text = fmt::format(
            "more than {} of the disk of {} can't be read, so the resync was abandoned; {} lacks "
            "up to {}, and every write goes to both",
            format_size(Salvage::most_unreadable), parts_.node, peer_node_,
            format_size(incomplete.bytes));
        return incomplete;
    }
    incomplete.text = fmt::format(
        "{} lacks {} that the disk of {} can't read ({}); everything else is there, and every "
        "write goes to both",
        peer_node_, format_size(incomplete.bytes), parts_.node, name_ranges(incomplete.lacking));
    return incomplete;
}

Result<void> Peer::leave_incomplete(const std::shared_ptr<Session>& session, const Resync& resync,
                                    milliseconds next_try,
                                    std::optional<Differences::Lacking>& reported) {
    // What was sent, durable there: writes that waited for the peer may be answered then.
    if (auto settled = checkpoint(IntentMap::Clear::all); !settled) {
        return settled;
    }
    Incomplete now;
    {
        MutexLock lock(mutex_);
        unreadable_cause_ = resync.unreadable().value_or(Error{}).message;
        gave_up_ = resync.gave_up();
        next_try_ = parts_.clock.wall_now() + next_try;
        now = describe_incomplete();
    }
    if (auto left = parts_.membership.leave_incomplete(session); !left) {
        return left;
    }
    if (reported == now.lacking) {
        return {};
    }
    reported = now.lacking;
    report("resync-incomplete", Severity::warning, now.text, now.cause,
           fmt::format("rewrite these ranges (restore the files in them from a backup): the mirror "
                       "is then in sync again automatically. They are also read again from time to "
                       "time; to do it now: mirrorctl resync {}",
                       parts_.volume.name));
    // For its status, and for whoever may have to promote it. What it can't note is known here.
    (void)session->tell_incomplete(now.bytes, now.text);
    return {};
}

bool Peer::await_another_try(const Session& session, milliseconds delay) {
    const auto until = std::chrono::steady_clock::now() + delay;
    MutexLock lock(mutex_);
    while (!stop_ && !is_resting() && !full_wanted_ && !session.is_lost()) {
        const auto now = std::chrono::steady_clock::now();
        if (again_wanted_ || parts_.differences.empty() || now >= until) {
            again_wanted_ = false;
            return true;
        }
        wake_.wait_until(lock, std::min(until, now + look_period));
    }
    return false;
}

}  // namespace mirror
