// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/boot.hpp"

#include <algorithm>

#include "core/base/log.hpp"
#include "core/base/put_file.hpp"
#include "core/base/trusted_file.hpp"
#include "core/config/own_names.hpp"
#include "daemon/active_mark.hpp"
#include "daemon/promote.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds between_rounds{250};
constexpr milliseconds shortest_pause{1000};
constexpr milliseconds longest_pause{30000};
/// How many times peer_timeout a peer that starts at the same time is waited for.
constexpr int patience = 12;

std::string marker_of(const NodeConfig& node, const std::string& volume) {
    return fmt::format("{}/{}{}", node.run_dir, volume, own_names::boot_mark);
}

}  // namespace

void note_boot_decided(const NodeConfig& node, const std::string& volume) {
    if (is_boot_decided(node, volume)) {
        return;
    }
    if (auto put = put_file(marker_of(node, volume), boot_id() + "\n", 0644); !put) {
        log(LogLevel::warning, "{}", put.error().text());
    }
}

bool is_boot_decided(const NodeConfig& node, const std::string& volume) {
    const auto text = read_own_file(marker_of(node, volume), longest_mark);
    return text && text->substr(0, text->find('\n')) == boot_id();
}

BootPromotions::~BootPromotions() {
    stop();
}

Result<void> BootPromotions::start() {
    std::vector<Task> tasks;
    for (const auto& [name, keeper] : keepers_) {
        const bool wanted =
            keeper->is_configured() && keeper->config().active_at_boot == context_.node.name;
        if (!wanted || keeper->place() == Place::absent || keeper->waits_for_peer()) {
            // A change of the configuration later on is no boot.
            note_boot_decided(context_.node, name);
        } else if (!is_boot_decided(context_.node, name)) {
            const SteadyTime now = context_.clock.steady_now();
            tasks.push_back({.keeper = keeper, .began = now, .next = now});
        }
    }
    if (tasks.empty()) {
        return {};
    }
    return start_thread(thread_, "boot", [this, given = std::move(tasks)] { work(given); });
}

void BootPromotions::stop() {
    {
        MutexLock lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

bool BootPromotions::pause(milliseconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    MutexLock lock(mutex_);
    while (!stopping_ && changed_.wait_until(lock, until) == std::cv_status::no_timeout) {
    }
    return !stopping_;
}

void BootPromotions::work(std::vector<Task> tasks) {
    while (!tasks.empty() && pause(between_rounds)) {
        std::vector<Task> left;
        for (Task& task : tasks) {
            if (context_.clock.steady_now() < task.next || !attempt(task)) {
                left.push_back(std::move(task));
            }
        }
        tasks = std::move(left);
    }
}

void BootPromotions::put_off(Task& task, const Error& why) const {
    task.next = context_.clock.steady_now() + task.pause;
    task.pause = std::min(task.pause * 2, longest_pause);
    if (why.kind == ErrorKind::busy || std::exchange(task.reason, why.message) == why.message) {
        return;  // another change is in progress; or it was told
    }
    task.pause = shortest_pause;
    task.keeper->record(
        "boot-promotion-waits", Severity::warning,
        fmt::format(
            "{} is not active on {} yet, as active_at_boot requires; the promotion is retried",
            task.keeper->name(), task.keeper->node()),
        why.message, why.remedy);
}

bool BootPromotions::attempt(Task& task) const {
    VolumeKeeper& keeper = *task.keeper;
    if (is_boot_decided(context_.node, keeper.name())) {
        return true;
    }
    // A reload may have removed or replaced the volume's keeper, or taken active_at_boot away; if
    // it does so after this look, promote() is told that the keeper is busy, and the next look is
    // here.
    const auto current = keepers_.find(keeper.name());
    if (current == keepers_.end() || current->second != &keeper || !keeper.is_configured() ||
        keeper.config().active_at_boot != context_.node.name) {
        note_boot_decided(context_.node, keeper.name());
        return true;
    }
    if (keeper.place() == Place::active) {
        note_boot_decided(context_.node, keeper.name());
        return true;
    }
    if (const auto answer = keeper.peers().ask_status(keeper.peer())) {
        const auto theirs = answer->volumes.find(keeper.name());
        if (theirs != answer->volumes.end() && theirs->second.role == Role::active) {
            keeper.record("boot-promotion-ended", Severity::info,
                          fmt::format("{} is active on {}, so it stays standby on {}",
                                      keeper.name(), keeper.peer(), keeper.node()),
                          "active_at_boot never takes a volume away from a node");
            note_boot_decided(context_.node, keeper.name());
            return true;
        }
    } else if (context_.clock.steady_now() - task.began < patience * keeper.config().peer_timeout) {
        task.pause = shortest_pause;
        put_off(task, answer.error());
        return false;
    }
    // First without consequences, so that an event is written for news only. The role may be
    // decided while that asks the peer, and between the last look here and the promotion: promote()
    // looks again under its operation. What the peer said above is judged again there as well.
    auto done = promote(keeper, {.dry_run = true});
    if (done && !is_boot_decided(context_.node, keeper.name())) {
        done = promote(keeper, {.cause = "boot"});
    }
    if (!done) {
        put_off(task, done.error());
    }
    return done.has_value();
}

}  // namespace mirror::daemon
