// SPDX-License-Identifier: BSD-3-Clause
// Verify: what is asked of it, and what may be seen of it.
#include <algorithm>
#include <utility>

#include "core/base/json.hpp"
#include "core/control/messages.hpp"
#include "core/engine/verify.hpp"

namespace mirror {
namespace {

using control::Json;

std::string rate_words(std::uint64_t rate) {
    return rate == 0 ? "as fast as possible"
                     : fmt::format("at most {} a second", format_size(rate));
}

unsigned percent(const VerifyRecord& record) {
    return record.size == 0 ? 100
                            : static_cast<unsigned>(100.0 * static_cast<double>(record.position) /
                                                    static_cast<double>(record.size));
}

}  // namespace

Result<Verify::Wishes> Verify::parse(const Json& request) {
    Wishes wishes;
    for (const auto& [name, target] : {std::pair("repair", &wishes.repair),
                                       {"stop", &wishes.stop},
                                       {"restart", &wishes.restart},
                                       {"dry_run", &wishes.dry_run}}) {
        const auto value = control::bool_field_or(request, name, false);
        if (!value) {
            return Failure(value.error());
        }
        *target = *value;
    }
    const auto rate = control::optional_uint_field(request, "rate");
    if (!rate) {
        return Failure(rate.error());
    }
    wishes.rate = *rate;
    return wishes;
}

void Verify::hint() {
    MutexLock lock(mutex_);
    hinted_ = true;
    wake_.notify_all();
}

Result<Json> Verify::handle(const Json& request) {
    const auto wishes = parse(request);
    if (!wishes) {
        return Failure(wishes.error());
    }
    if (wishes->stop) {
        return wishes->dry_run
                   ? Json{{"would", Json::array({fmt::format("stop the comparison of {}",
                                                             parts_.volume.name)})},
                          {"bytes", nullptr},
                          {"seconds", nullptr}}
                   : halt();
    }
    return begin(*wishes);
}

Result<void> Verify::require_in_sync() const {
    const Membership::View view = parts_.comparison.membership.view();
    const std::string& name = parts_.volume.name;
    if (view.local_failed) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{} has one good copy, on {}: {}", name, peer_node_, view.why),
                  fmt::format("mirrorctl switch {} --to {}, repair the disk of {}, and "
                              "verify when {} is in sync",
                              name, peer_node_, parts_.node, name)});
    }
    if (view.mode != MirrorMode::in_sync) {
        return Failure(Error{
            ErrorKind::refused,
            fmt::format("only replicas that should be equal can be compared, and {} is not in "
                        "sync: {}",
                        name, view.why),
            fmt::format("mirrorctl wait {} --for in-sync, then mirrorctl verify {}", name, name)});
    }
    return {};
}

std::uint64_t Verify::rate_of(const std::optional<std::uint64_t>& asked) const noexcept {
    return asked.value_or(usual_rate_.load());
}

void Verify::take(std::uint64_t usual_rate, std::chrono::milliseconds peer_timeout) noexcept {
    usual_rate_ = usual_rate;
    peer_timeout_ = peer_timeout;
}

VerifyRecord Verify::fresh_record(const Wishes& wishes) const {
    VerifyRecord record;
    record.volume = record_.volume;
    record.size = record_.size;
    record.state = VerifyState::running;
    record.source = parts_.node;
    record.repair = wishes.repair;
    record.rate = wishes.rate;
    record.started_at = parts_.clock.wall_now();
    record.last_finished = record_.last_finished;
    record.last_mismatched_bytes = record_.last_mismatched_bytes;
    record.last_repaired_bytes = record_.last_repaired_bytes;
    return record;
}

Result<Json> Verify::begin(const Wishes& wishes) {
    // Both may be otherwise a moment later: the comparison waits then. Whether one runs is looked
    // at with the mutex that is held until this one does, since two may be asked for at once.
    const std::string waits_for = obstacle();
    const auto possible = require_in_sync();
    if (wishes.dry_run) {
        return possible ? Result<Json>(plan(wishes)) : Failure(possible.error());
    }
    bool resumed = false;
    std::uint64_t position = 0;
    {
        MutexLock lock(mutex_);
        if (record_.state == VerifyState::running && !wishes.restart) {
            const auto adjusted = adjust(wishes, waits_for);
            lock.unlock();
            return adjusted.map([&](const std::string& text) { return answer(text, true); });
        }
        if (!possible) {
            return Failure(possible.error());
        }
        resumed = record_.state == VerifyState::stopped && record_.repair == wishes.repair &&
                  !wishes.restart;
        if (resumed) {
            record_.state = VerifyState::running;
            record_.source = parts_.node;
            record_.rate = wishes.rate;
        } else {
            record_ = fresh_record(wishes);
        }
        position = record_.position;
        ++run_;
        reported_ = 0;
        wake_.notify_all();
    }
    save();
    const std::string pace = rate_words(rate_of(wishes.rate));
    if (resumed) {
        return answer(fmt::format("the comparison of {} resumes at {}, {}", parts_.volume.name,
                                  format_size(position), pace),
                      true);
    }
    const std::string text = fmt::format(
        "{} is being compared on {} and {}, {}{}", parts_.volume.name, parts_.node, peer_node_,
        pace,
        wishes.repair
            ? fmt::format("; where they differ, {} gets the blocks of {}", peer_node_, parts_.node)
            : "");
    report("verify-started", Severity::info, text, "mirrorctl verify was requested");
    return answer(text, false);
}

Result<std::string> Verify::adjust(const Wishes& wishes, const std::string& waits_for) {
    const std::string& name = parts_.volume.name;
    if (wishes.repair && !record_.repair) {
        return Failure(Error{
            ErrorKind::refused,
            fmt::format("{} is being compared without repair, {} % done", name, percent(record_)),
            fmt::format("wait until it ends, or mirrorctl verify {} --repair --restart", name)});
    }
    std::string text =
        fmt::format("{} is being compared already, {} % done", name, percent(record_));
    if (wishes.rate) {
        record_.rate = wishes.rate;
        hurry_ = true;
        wake_.notify_all();
        text += fmt::format("; from here on {}", rate_words(*wishes.rate));
    }
    if (!waits_for.empty()) {
        text += fmt::format("; it is waiting: {}", waits_for);
    }
    return text;
}

Json Verify::halt() {
    const std::string& name = parts_.volume.name;
    std::uint64_t position = 0;
    bool was_running = false;
    {
        MutexLock lock(mutex_);
        was_running = record_.state == VerifyState::running;
        if (was_running) {
            record_.state = VerifyState::stopped;
            ++run_;
            pass_began_.reset();
            wake_.notify_all();
        }
        position = record_.position;
    }
    if (!was_running) {
        return answer(fmt::format("{} is not being compared: nothing to do", name), false);
    }
    save();
    const std::string text =
        fmt::format("the comparison of {} was stopped at {}", name, format_size(position));
    report("verify-stopped", Severity::info, text, "mirrorctl verify --stop was requested",
           fmt::format("mirrorctl verify {} resumes there", name));
    return answer(text, false);
}

std::uint64_t Verify::bytes_to_read(std::uint64_t from) {
    const std::uint64_t size = parts_.comparison.store.size();
    const auto extents = parts_.comparison.store.extents({from, size - from});
    if (!extents) {
        return size - from;
    }
    std::uint64_t bytes = 0;
    for (const Extent& extent : *extents) {
        bytes += extent.hole ? 0 : extent.range.length;
    }
    return bytes;
}

Json Verify::plan(const Wishes& wishes) {
    std::uint64_t from = 0;
    {
        MutexLock lock(mutex_);
        const bool resumes = record_.state == VerifyState::stopped &&
                             record_.repair == wishes.repair && !wishes.restart;
        from = resumes ? record_.position : 0;
    }
    const std::uint64_t bytes = bytes_to_read(from);
    const std::uint64_t rate = rate_of(wishes.rate);
    Json would =
        Json::array({fmt::format("compare {} of {} by digest on {} and {}, {}", format_size(bytes),
                                 parts_.volume.name, parts_.node, peer_node_, rate_words(rate))});
    if (from != 0) {
        would.push_back(fmt::format("begin at {}, where it was stopped", format_size(from)));
    }
    if (wishes.repair) {
        would.push_back(fmt::format("overwrite on {}, with those of {}, the blocks that differ",
                                    peer_node_, parts_.node));
    }
    return {{"would", std::move(would)},
            {"bytes", bytes},
            {"seconds", rate == 0 ? Json() : Json(divide_up(bytes, rate))}};
}

Json Verify::answer(const std::string& text, bool resumed) const {
    return {{"text", text}, {"resumed", resumed}, {"verify", view()}};
}

Json Verify::view() const {
    VerifyPace pace{0, obstacle()};
    MutexLock lock(mutex_);
    if (pass_began_) {
        const double seconds =
            std::chrono::duration<double>(parts_.clock.steady_now() - *pass_began_).count();
        if (seconds > 0) {
            pace.bytes_per_second = static_cast<std::uint64_t>(
                static_cast<double>(record_.position - std::min(pass_from_, record_.position)) /
                seconds);
        }
    }
    return verify_status(record_, parts_.clock.wall_now(), pace);
}

}  // namespace mirror
