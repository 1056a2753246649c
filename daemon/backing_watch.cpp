// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/backing_watch.hpp"

#include "core/meta/meta_file.hpp"
#include "daemon/recognise_backing.hpp"

namespace mirror::daemon {
namespace {

constexpr std::chrono::seconds period{5};

bool has_it_open(const VolumeKeeper& keeper) {
    return keeper.place() == Place::standby || keeper.place() == Place::active;
}

}  // namespace

Result<void> BackingWatch::start() {
    return periodic_.start("backings", period, [this] {
        for (const auto& [name, keeper] : keepers_) {
            look(*keeper);
        }
    });
}

void BackingWatch::stop() {
    periodic_.stop();
}

void BackingWatch::look(VolumeKeeper& keeper) {
    if (!has_it_open(keeper)) {
        told_.erase(keeper.name());
        return;
    }
    const auto block = read_superblock(keeper.meta_file());
    const std::string found = block ? look_for_backing(keeper, *block) : std::string();
    // It may have been closed meanwhile, to be opened where it is now.
    if (found.empty() || !has_it_open(keeper)) {
        if (told_.erase(keeper.name()) != 0 && has_it_open(keeper)) {
            keeper.record("backing-returned", Severity::info,
                          fmt::format("the backing of {} on {} is at its path again", keeper.name(),
                                      keeper.node()));
        }
        return;
    }
    std::string& told = told_[keeper.name()];
    if (std::exchange(told, found) != found) {
        keeper.record("backing-moved", Severity::error,
                      fmt::format("the backing of {} on {} is no longer at its path", keeper.name(),
                                  keeper.node()),
                      found,
                      fmt::format("put it back under its name before {} is switched or mirrord is "
                                  "restarted; any other file found there is compared as a whole",
                                  keeper.name()));
    }
}

}  // namespace mirror::daemon
