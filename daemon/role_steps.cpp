// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/role_steps.hpp"

#include <algorithm>

namespace mirror::daemon {
namespace {

/// One filesystem may be mounted over itself, by mistake.
constexpr int most_layers = 8;

}  // namespace

bool RoleSteps::is_mounted() {
    const auto points = mounter_.mount_points(config_.device);
    return std::find(points.begin(), points.end(), mounter_.resolved(config_.mount)) !=
           points.end();
}

std::vector<std::string> RoleSteps::mounts_elsewhere() {
    auto points = mounter_.mount_points(config_.device);
    if (!config_.mount.empty()) {
        std::erase(points, mounter_.resolved(config_.mount));
    }
    return points;
}

bool RoleSteps::lacks_mount() {
    return !config_.mount.empty() && !is_mounted();
}

void RoleSteps::tell(Occasion occasion) {
    // The recorder of the hooks has told what failed; nothing depends on it here.
    (void)hooks_.run(occasion);
}

Result<void> RoleSteps::require_leavable() {
    if (config_.mount.empty()) {
        return {};  // the device itself is asked when it is detached
    }
    if (const auto others = mounts_elsewhere(); !others.empty()) {
        return Failure(Error{ErrorKind::busy,
                             fmt::format("{} is mounted on {}, where mirrord did not mount it",
                                         config_.device, others.front()),
                             fmt::format("umount {}", others.front())});
    }
    if (!is_mounted()) {
        return {};
    }
    if (const auto within = mounter_.mounted_within(config_.mount, config_.device);
        !within.empty()) {
        return Failure(Error{
            ErrorKind::busy,
            fmt::format("{} can't be unmounted: {} is mounted within it", config_.mount, within),
            fmt::format("umount {}", within)});
    }
    return {};
}

Failure RoleSteps::in_use(const std::string& users) const {
    return Failure(Error{ErrorKind::busy, fmt::format("{} is in use by {}", config_.mount, users),
                         "stop them, by hand or in a hook (mirrord(8), HOOKS), then try again"});
}

Result<void> RoleSteps::unmount(Service service) {
    if (config_.mount.empty() || service == Service::cut_off) {
        return {};
    }
    if (auto leavable = require_leavable(); !leavable) {
        return leavable;
    }
    if (service == Service::dead && is_mounted()) {
        return Failure(
            Error{ErrorKind::busy,
                  fmt::format("{} can't be unmounted while the engine does not run", config_.mount),
                  "wait until it runs again; or add --disconnect-clients: programs that use the "
                  "mount get I/O errors"});
    }
    for (int layer = 0; layer < most_layers && is_mounted(); ++layer) {
        if (auto done = mounter_.unmount(config_.mount); !done) {
            const std::string users = mounter_.users(config_.mount);
            if (users.empty()) {
                return Failure(
                    done.error().within(fmt::format("{} can't be unmounted", config_.mount)));
            }
            return in_use(users);
        }
        was_unmounted_ = true;
    }
    if (was_unmounted_) {
        record_("unmounted", Severity::info,
                fmt::format("{} was unmounted from {}", config_.name, config_.mount), {}, {});
    }
    return {};
}

Failure RoleSteps::refuse_demotion(Error error) {
    error.message = fmt::format("{} is not demoted on {}: {}", config_.name, node_, error.message);
    record_("demotion-refused", Severity::warning, error.message, {}, error.remedy);
    return Failure(std::move(error));
}

Result<void> RoleSteps::before_demote(Service service) {
    auto ready = hooks_.run(Occasion::before_demote).and_then([&] { return unmount(service); });
    if (ready) {
        return {};
    }
    if (hooks_.has_run_any() || was_unmounted_) {
        demote_cancelled();
    }
    return refuse_demotion(ready.error());
}

void RoleSteps::demote_cancelled() {
    if (was_unmounted_ && lacks_mount()) {
        (void)mount();  // it has told why not
    }
    tell(Occasion::demote_cancelled);
}

void RoleSteps::after_demote() {
    if (!config_.mount.empty() && is_mounted()) {
        if (auto done = unmount(Service::running); !done) {
            record_("mount-failed", Severity::warning,
                    fmt::format("{} is still mounted on {}, without its data", config_.device,
                                config_.mount),
                    done.error().message, fmt::format("umount {}", config_.mount));
        }
    }
    tell(Occasion::after_demote);
}

Result<void> RoleSteps::before_promote(bool may_be_mounted) {
    const auto refuse = [&](Error error) {
        error.message =
            fmt::format("{} is not promoted on {}: {}", config_.name, node_, error.message);
        record_("promotion-refused", Severity::warning, error.message, {}, error.remedy);
        return Failure(std::move(error));
    };
    if (!config_.device.empty() && !may_be_mounted) {
        if (const auto points = mounter_.mount_points(config_.device); !points.empty()) {
            return refuse({ErrorKind::busy,
                           fmt::format("{} is still mounted on {}, from when the volume was "
                                       "active before",
                                       config_.device, points.front()),
                           fmt::format("umount {}", points.front())});
        }
    }
    if (auto agreed = hooks_.run(Occasion::before_promote); !agreed) {
        promote_cancelled();
        return refuse(agreed.error());
    }
    return {};
}

void RoleSteps::promote_cancelled() {
    tell(Occasion::promote_cancelled);
}

Result<void> RoleSteps::mount() {
    const auto failed = [&](Error error) {
        record_("mount-failed", Severity::warning,
                fmt::format("{} was not mounted on {}", config_.name, config_.mount), error.message,
                error.remedy);
        return Failure(std::move(error));
    };
    const std::string again = fmt::format("mirrorctl promote {}", config_.name);
    if (const auto others = mounts_elsewhere(); !others.empty()) {
        return failed({ErrorKind::busy,
                       fmt::format("{} is mounted on {} already", config_.device, others.front()),
                       fmt::format("umount {}, then {}", others.front(), again)});
    }
    if (const auto within = mounter_.mounted_within(config_.mount, config_.device);
        !within.empty()) {
        return failed({ErrorKind::busy, fmt::format("something else is mounted on {}", within),
                       fmt::format("umount {}, then {}", within, again)});
    }
    if (auto done = mounter_.mount(config_.device, config_.mount, config_.mount_options); !done) {
        if (!was_unmounted_ && mounter_.content(config_.device) == Content::empty) {
            return failed({ErrorKind::refused,
                           fmt::format("{} has no filesystem yet", config_.device),
                           fmt::format("mkfs.ext4 {}, then {}", config_.device, again)});
        }
        Error error = done.error();
        error.remedy = again;
        return failed(std::move(error));
    }
    record_("mounted", Severity::info,
            fmt::format("{} is mounted on {}", config_.name, config_.mount), {}, {});
    return {};
}

std::string RoleSteps::after_promote(bool is_attached) {
    hooks_.set_device(is_attached ? config_.device : "");
    if (lacks_mount()) {
        const auto mounted =
            is_attached ? mount() : fail(ErrorKind::refused, "{} is not attached", config_.device);
        if (!mounted) {
            return fmt::format("; {} was not mounted{}: {}", config_.mount,
                               hooks_.has_any() ? ", and the after-promote hooks were not run" : "",
                               mounted.error().text());
        }
    }
    const auto ran = hooks_.run(Occasion::after_promote);
    return ran ? std::string() : "; " + ran.error().text();
}

Result<void> RoleSteps::require_no_users() {
    const std::string users =
        config_.mount.empty() || !is_mounted() ? "" : mounter_.users(config_.mount);
    return users.empty() ? Result<void>{} : in_use(users);
}

std::vector<std::string> RoleSteps::demotion_plan() {
    std::vector<std::string> plan;
    if (hooks_.has_any()) {
        plan.push_back(fmt::format("run the hooks in {}, which may refuse", hooks_.folder()));
    }
    if (!config_.mount.empty() && is_mounted()) {
        plan.push_back(fmt::format("unmount {}", config_.mount));
    }
    return plan;
}

std::vector<std::string> RoleSteps::promotion_plan() {
    std::vector<std::string> plan;
    if (!config_.mount.empty()) {
        plan.push_back(fmt::format("mount it on {}", config_.mount));
    }
    if (hooks_.has_any()) {
        plan.push_back(fmt::format("run the hooks in {}, which may refuse", hooks_.folder()));
    }
    return plan;
}

}  // namespace mirror::daemon
