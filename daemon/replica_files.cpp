// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/replica_files.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "core/meta/meta_file.hpp"
#include "core/store/blank.hpp"
#include "daemon/backing_access.hpp"

namespace mirror::daemon {

Result<ReplicaFiles> ReplicaFiles::plan(const VolumeKeeper& keeper, Access access,
                                        Existing metadata) {
    if (metadata == Existing::refused && ::access(keeper.meta_file().c_str(), F_OK) == 0) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("volume {} exists on {} already ({})", keeper.name(),
                                         keeper.node(), keeper.meta_file()),
                             fmt::format("mirrorctl status {}", keeper.name())});
    }
    const std::string& backing = keeper.backing_path();
    const auto info = inspect_backing(backing);
    if (!info) {
        return Failure(info.error().within(keeper.node()));
    }
    const auto own = require_own_backing(backing);
    const bool closes = !own && !info->has_data && can_be_closed_to_others(backing);
    if (!own && !closes && access == Access::ours_alone) {
        Error error = own.error().within(keeper.node());
        error.remedy +=
            fmt::format(", or take it as it is: mirrorctl create {} --accept-mode", keeper.name());
        return Failure(std::move(error));
    }
    const std::string folder = std::filesystem::path(backing).parent_path().string();
    if (!info->exists && ::access(folder.c_str(), W_OK) != 0) {
        return fail_errno(errno, fmt::format("{} can't be made on {}", backing, keeper.node()));
    }
    if (info->exists) {
        // Opened for a moment: a backing that is in use must be found out before anything is made.
        const auto opened = FileStore::open(backing, FileStore::Lock::exclusive);
        if (!opened) {
            return Failure(opened.error().within(keeper.node()));
        }
        if (metadata == Existing::replaced) {
            (*opened)->forget_cache();  // the old disk's cache is not what a resync may compare
        }
    }
    ReplicaFiles files(backing, keeper.meta_file(), keeper.node(), *info);
    files.closes_ = closes && access == Access::ours_alone;
    return files;
}

Result<void> ReplicaFiles::fit(std::uint64_t volume_size, Longer longer) {
    const bool fits =
        longer == Longer::allowed ? info_.size >= volume_size : info_.size == volume_size;
    if (info_.exists && !fits) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{} on {} has {} bytes ({}), but the size of the volume is {} bytes "
                              "({})",
                              backing_, node_, info_.size, format_size(info_.size), volume_size,
                              format_size(volume_size)),
                  "put a file or device of that size in its place, or correct the size in the "
                  "config"});
    }
    if (volume_size == 0 || volume_size % 512 != 0) {
        return fail(ErrorKind::refused,
                    "{} on {} has {} bytes: a volume is a multiple of 512 bytes", backing_, node_,
                    volume_size);
    }
    size_ = volume_size;
    return {};
}

Result<void> ReplicaFiles::fit_config(const VolumeKeeper& keeper) {
    const auto& wanted = keeper.config().size;
    if (!info_.exists && !wanted) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} does not exist on {}, and volume {} has no size",
                                         backing_, node_, keeper.name()),
                             fmt::format("set size in [volume.{}] of {}", keeper.name(),
                                         keeper.context().used().path)});
    }
    return fit(wanted.value_or(info_.size), Longer::refused);
}

ReplicaFiles::ReplicaFiles(ReplicaFiles&& other) noexcept
    : backing_(std::move(other.backing_)),
      meta_(std::move(other.meta_)),
      node_(std::move(other.node_)),
      info_(other.info_),
      size_(other.size_),
      closes_(other.closes_),
      made_backing_(std::exchange(other.made_backing_, false)),
      made_meta_(std::exchange(other.made_meta_, false)),
      kept_(other.kept_) {}

ReplicaFiles::~ReplicaFiles() {
    if (kept_) {
        return;
    }
    if (made_meta_) {
        ::unlink(meta_.c_str());
    }
    if (made_backing_) {
        ::unlink(backing_.c_str());
    }
}

bool ReplicaFiles::looks_blank() const {
    return is_empty() || mirror::looks_blank(backing_).value_or(false);
}

std::uint64_t ReplicaFiles::data_bytes() const {
    struct stat found {};
    if (info_.is_block_device || ::stat(backing_.c_str(), &found) != 0) {
        return info_.size;
    }
    constexpr std::uint64_t stat_block = 512;
    // The filesystem counts blocks of its own among them: the map of a file in pieces.
    return std::min(static_cast<std::uint64_t>(found.st_blocks) * stat_block,
                    static_cast<std::uint64_t>(found.st_size));
}

Result<void> ReplicaFiles::make(const Superblock& first) {
    if (!info_.exists) {
        if (auto made = create_backing_file(backing_, size_); !made) {
            return made;
        }
        made_backing_ = true;
    }
    if (closes_) {
        if (auto closed = close_to_others(backing_); !closed) {
            return Failure(closed.error().within(node_));
        }
    }
    auto meta = create_meta(meta_, first);
    if (!meta) {
        return Failure(meta.error());
    }
    made_meta_ = true;
    return {};
}

Superblock first_superblock(const VolumeKeeper& keeper, std::uint64_t size) {
    Superblock block;
    block.volume_name = keeper.name();
    block.node = keeper.node();
    block.peer = keeper.peer();
    block.size = size;
    block.created = keeper.context().clock.wall_now();
    return block;
}

}  // namespace mirror::daemon
