// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/replace.hpp"

#include <cerrno>
#include <cstdio>
#include <future>
#include <memory>
#include <unistd.h>

#include "core/base/json.hpp"
#include "core/base/start_thread.hpp"
#include "core/meta/transitions.hpp"
#include "daemon/rto.hpp"
#include "daemon/settings_diff.hpp"

namespace mirror::daemon {
namespace {

Failure refuse(std::string reason, std::string remedy) {
    return Failure(Error{ErrorKind::refused, std::move(reason), std::move(remedy)});
}

/// That there is nothing here worth keeping.
Result<void> require_unusable(VolumeKeeper& keeper) {
    const auto lease = keeper.replica();
    if (!lease) {
        // Never made, or it can't be opened: that is what this is for. Unless it was made active
        // a moment ago.
        const bool is_usable =
            lease.error().kind == ErrorKind::busy || keeper.place() == Place::active;
        return is_usable ? Failure(lease.error()) : Result<void>{};
    }
    const Superblock block = (*lease)->superblock();
    if (holds_nothing_of_worth(block)) {
        return {};
    }
    return refuse(
        fmt::format("the replica of {} on {} is {}, and its disk has not failed: there is "
                    "nothing to replace",
                    keeper.name(), keeper.node(), to_string(block.state)),
        fmt::format("mirrorctl resync {} --full compares all of it with {}; to replace a "
                    "disk that works, stop mirrord, put the new one in place, and start "
                    "mirrord",
                    keeper.name(), keeper.peer()));
}

/// The same once the replica is closed, so that no session begins any more: one that did while the
/// peer was asked may have filled it, and be all that the active has.
Result<void> require_still_unusable(const VolumeKeeper& keeper) {
    const auto block = read_superblock(keeper.meta_file());
    if (!block || holds_nothing_of_worth(*block)) {
        return {};  // what can't be read is of no worth either
    }
    return refuse(fmt::format("the replica of {} on {} was filled in the meantime: it is {}",
                              keeper.name(), keeper.node(), to_string(block->state)),
                  fmt::format("mirrorctl status {}", keeper.name()));
}

/// The peer's replica, which must be able to fill this one.
Result<ReplicaSummary> require_source(VolumeKeeper& keeper) {
    const auto answer = keeper.peers().ask_status(keeper.peer());
    if (!answer) {
        const Error& error = answer.error();
        return Failure(Error{
            error.kind,
            fmt::format("nothing could fill the new replica: {}",
                        why_not_seen(keeper.peer(), error)),
            was_reached(error) ? error.remedy : fmt::format("make {} reachable", keeper.peer())});
    }
    const auto settings = answer->settings.find(keeper.name());
    const auto volume = answer->volumes.find(keeper.name());
    if (settings == answer->settings.end() || volume == answer->volumes.end()) {
        const NoReplica none = why_no_replica(*answer, keeper.name());
        return refuse(fmt::format("nothing could fill the new replica: {}", none.reason),
                      none.remedy);
    }
    auto same =
        require_same_settings(keeper.name(), keeper.node(), once_made(keeper.shared_settings()),
                              keeper.peer(), once_made(settings->second));
    if (!same) {
        return Failure(same.error());
    }
    const ReplicaSummary& theirs = volume->second.summary;
    if (theirs.state != ReplicaState::up_to_date) {
        return refuse(fmt::format("the replica of {} is {}: it can't fill another one",
                                  keeper.peer(), to_string(theirs.state)),
                      fmt::format("on {}: mirrorctl status {}", keeper.peer(), keeper.name()));
    }
    return theirs;
}

/// A look at a file on a disk that hangs does not come back: so it is done on the side, and left to
/// itself when it takes too long.
Result<void> require_answer(const VolumeKeeper& keeper) {
    constexpr std::chrono::seconds patience{5};
    auto answered = std::make_shared<std::promise<void>>();
    auto waiting = answered->get_future();
    auto started = start_thread("inspect", [answered, path = keeper.backing_path()] {
        (void)inspect_backing(path);
        answered->set_value();
    });
    if (!started) {
        return Failure(started.error());
    }
    started->detach();
    if (waiting.wait_for(patience) == std::future_status::ready) {
        return {};
    }
    return refuse(fmt::format("{} on {} does not answer: its disk hangs", keeper.backing_path(),
                              keeper.node()),
                  "repair or replace the disk first");
}

Superblock new_superblock(const VolumeKeeper& keeper, const ReplicaSummary& theirs) {
    Superblock block;
    block.volume = theirs.volume;
    block.volume_name = keeper.name();
    block.node = keeper.node();
    block.peer = keeper.peer();
    block.size = theirs.size;
    block.created = keeper.context().clock.wall_now();
    block.lineage = theirs.lineage;
    return block;  // in state `new`: until it was filled nobody believes it
}

Json plan(const VolumeKeeper& keeper, const ReplicaFiles& files) {
    const std::string& node = keeper.node();
    Json would = Json::array();
    would.push_back(
        fmt::format("set the metadata in {} aside, and make new ones", keeper.meta_file()));
    would.push_back(files.backing_exists()
                        ? fmt::format("overwrite {} on {}", keeper.backing_path(), node)
                        : fmt::format("make {} ({}) on {}", keeper.backing_path(),
                                      format_size(files.size()), node));
    would.push_back(fmt::format("fill {} from {} by a full resync, while {} is active", node,
                                keeper.peer(), keeper.peer()));
    Json overwrites = Json::array();
    if (!files.is_empty()) {
        overwrites.push_back({{"node", node},
                              {"backing", keeper.backing_path()},
                              {"data_bytes", files.data_bytes()},
                              {"looks_empty", files.looks_blank()}});
    }
    return {
        {"would", would},
        {"overwrites", std::move(overwrites)},
        {"bytes", files.size()},
        {"seconds", nullptr},
        {"loss", files.is_empty() ? std::string()
                                  : fmt::format("{} in {} on {}", format_size(files.data_bytes()),
                                                keeper.backing_path(), node)}};
}

/// The failed replica's metadata under another name, and back again unless keep() was called.
class SetAside {
  public:
    explicit SetAside(const std::string& path) : path_(path), aside_(path + ".replaced") {}
    SetAside(const SetAside&) = delete;
    SetAside& operator=(const SetAside&) = delete;
    ~SetAside() {
        if (moved_ && !kept_) {
            ::rename(aside_.c_str(), path_.c_str());
        }
    }
    [[nodiscard]] Result<void> move() {
        moved_ = ::rename(path_.c_str(), aside_.c_str()) == 0;
        return moved_ || errno == ENOENT ? Result<void>{} : fail_errno(errno, path_);
    }
    void keep() noexcept { kept_ = true; }

  private:
    const std::string path_;
    const std::string aside_;
    bool moved_ = false;
    bool kept_ = false;
};

}  // namespace

Result<Json> replace_replica(VolumeKeeper& keeper, bool dry_run, ReplicaFiles::Access access) {
    const auto operation = keeper.begin("create --replace");
    if (!operation) {
        return Failure(operation.error());
    }
    const Stopwatch watch(keeper.context().clock);
    if (auto unusable = require_unusable(keeper); !unusable) {
        return Failure(unusable.error());
    }
    const auto theirs = require_source(keeper);
    if (!theirs) {
        return Failure(theirs.error());
    }
    if (auto answers = require_answer(keeper); !answers) {
        return Failure(answers.error());
    }
    // It may hold the old files open, and locked.
    const bool was_open = keeper.place() == Place::standby;
    keeper.close_replica(*operation);
    const auto go_back = [&](const Error& error) {
        if (was_open) {
            (void)keeper.open_standby(*operation);
        }
        return Failure(error);
    };
    // A replica that could not be opened is opened by nobody else while the operation is held.
    if (auto unusable = was_open ? require_still_unusable(keeper) : Result<void>{}; !unusable) {
        return go_back(unusable.error());
    }
    // What the source said may have changed: this replica counts for nothing before it was filled,
    // and a session with another size or volume does not begin.
    auto files = ReplicaFiles::plan(keeper, access, ReplicaFiles::Existing::replaced);
    if (!files) {
        return go_back(files.error());
    }
    if (auto fits = files->fit(theirs->size, ReplicaFiles::Longer::allowed); !fits) {
        return go_back(fits.error());
    }
    Json answer = plan(keeper, *files);
    if (dry_run) {
        if (was_open) {
            (void)keeper.open_standby(*operation);
        }
        return answer;
    }
    SetAside old(keeper.meta_file());
    Result<void> made = old.move();
    if (made) {
        made = files->make(new_superblock(keeper, *theirs));
    }
    if (!made) {
        return go_back(made.error());
    }
    files->keep();
    old.keep();
    keeper.remove_marker();
    if (auto opened = keeper.open_standby(*operation); !opened) {
        return Failure(opened.error());
    }
    const std::string text = fmt::format(
        "the replica of {} on {} was recreated ({}); {} fills it by a full resync while it is "
        "active",
        keeper.name(), keeper.node(), keeper.backing_path(), keeper.peer());
    keeper.record("replica-replaced", Severity::info, text);
    return Json{{"text", text}, {"loss", answer["loss"]}, {"seconds", watch.seconds()}};
}

}  // namespace mirror::daemon
