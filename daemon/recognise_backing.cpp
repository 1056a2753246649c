// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/recognise_backing.hpp"

#include "core/meta/backing_record.hpp"
#include "core/store/identity.hpp"

namespace mirror::daemon {
namespace {

/// One that is in use keeps the STATE_DIR that it was promoted with.
const std::string& state_dir_of(const Context& context, const std::string& volume) {
    if (const auto* const homes = context.homes_now()) {
        if (const auto home = homes->find(volume); home != homes->end()) {
            return home->second.node.state_dir;
        }
    }
    return context.node.state_dir;
}

/// The volume of this node whose backing has this identity; empty: none.
std::string owner_of(const VolumeKeeper& keeper, const std::string& identity) {
    for (const auto& [name, volume] : keeper.context().used().volumes) {
        if (name == keeper.name() || identity.empty()) {
            continue;
        }
        // Others have it open and write to it: a look at what is durable is enough, since an
        // identity is written when a replica is opened.
        const auto block = read_superblock(meta_path(state_dir_of(keeper.context(), name), name));
        if (block && block->backing_identity == identity) {
            return name;
        }
    }
    return {};
}

void report(VolumeKeeper& keeper, const std::string& what) {
    keeper.record(
        "backing-changed", Severity::warning,
        fmt::format("the backing of {} on {} is not as it was left", keeper.name(), keeper.node()),
        what,
        fmt::format("nothing, if that was intended: all of it is compared with {} when {} is "
                    "active there. Until then it is not promoted without --force",
                    keeper.peer(), keeper.name()));
}

}  // namespace

Result<void> recognise_backing(VolumeKeeper& keeper, const FileStore& backing, MetaFile& meta) {
    const auto identity = backing.identity();
    const auto mark = backing.change_mark();
    if (!identity || !mark) {
        return Failure(identity ? mark.error() : identity.error());
    }
    const Superblock block = meta.superblock();
    const BackingVerdict verdict = judge_backing(block, *identity, *mark);
    if (verdict == BackingVerdict::as_left) {
        return {};
    }
    const std::string what = describe_verdict(verdict, block, backing.path(), *identity);
    if (const std::string owner = owner_of(keeper, *identity); !owner.empty()) {
        return Failure(Error{
            ErrorKind::refused,
            fmt::format("{} is the backing of volume {}", backing.path(), owner),
            fmt::format("correct backing.{} of {} and {} in the config, or give the files or disks "
                        "their former names",
                        keeper.node(), keeper.name(), owner)});
    }
    // One that holds nothing that counts is filled as a whole anyway.
    const bool counts = block.state == ReplicaState::up_to_date ||
                        block.state == ReplicaState::stale ||
                        block.state == ReplicaState::inconsistent;
    const bool doubtful = verdict != BackingVerdict::first_seen && counts;
    auto adopted =
        meta.update([&](Superblock& current) { adopt_backing(current, *identity, doubtful); });
    if (adopted && doubtful) {
        report(keeper, what);
    }
    return adopted;
}

std::string look_for_backing(const VolumeKeeper& keeper, const Superblock& block) {
    const std::string& path = keeper.backing_path();
    const auto identity = identity_at(path);
    if (!identity) {
        return fmt::format("{} is gone, but still open ({}): writes go to a file that has no name",
                           path, identity.error().message);
    }
    if (block.backing_identity.empty() || *identity == block.backing_identity) {
        return {};
    }
    return fmt::format("{} was replaced while it was open: writes go to the former one, {}", path,
                       block.backing_identity);
}

}  // namespace mirror::daemon
