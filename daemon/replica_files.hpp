// SPDX-License-Identifier: BSD-3-Clause
// The files of a replica that is being made: what is there, what must be made, and how to undo
// it. Used by one request's thread, while it holds the volume's operation.
#pragma once

#include <cstdint>
#include <string>

#include "core/meta/superblock.hpp"
#include "core/store/file_store.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

class ReplicaFiles {
  public:
    /// Whether metadata may be there already.
    enum class Existing { refused, replaced };
    /// Whether others than mirrord may be able to use a backing that is a file.
    enum class Access { ours_alone, as_it_is };
    /// Looks and checks: no metadata yet, a backing that can be opened or made. Its size is
    /// fit()'s or fit_config()'s to say, before anything else is asked.
    [[nodiscard]] static Result<ReplicaFiles> plan(const VolumeKeeper& keeper, Access access,
                                                   Existing metadata = Existing::refused);
    /// Whether an existing backing may have more than the volume takes.
    enum class Longer { refused, allowed };
    /// For a volume of that size, which its other replica has.
    [[nodiscard]] Result<void> fit(std::uint64_t volume_size, Longer longer);
    /// For a first replica: the size in the config, or else that of the backing.
    [[nodiscard]] Result<void> fit_config(const VolumeKeeper& keeper);
    ~ReplicaFiles();  ///< removes what make() made, unless keep() was called
    ReplicaFiles(ReplicaFiles&& other) noexcept;
    ReplicaFiles& operator=(ReplicaFiles&&) = delete;
    ReplicaFiles(const ReplicaFiles&) = delete;
    ReplicaFiles& operator=(const ReplicaFiles&) = delete;

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] bool closes_to_others() const noexcept { return closes_; }
    [[nodiscard]] bool backing_exists() const noexcept { return info_.exists; }
    /// Reads as zeroes from end to end.
    [[nodiscard]] bool is_empty() const noexcept { return !info_.has_data; }
    /// Nothing was found by a look at it (core/store/blank.hpp): for people. What can't be read may
    /// hold data.
    [[nodiscard]] bool looks_blank() const;
    /// How much would be lost by overwriting it: what the file takes on its disk.
    [[nodiscard]] std::uint64_t data_bytes() const;

    [[nodiscard]] Result<void> make(const Superblock& first);
    void keep() noexcept { kept_ = true; }

  private:
    ReplicaFiles(std::string backing, std::string meta, std::string node, BackingInfo info)
        : backing_(std::move(backing)),
          meta_(std::move(meta)),
          node_(std::move(node)),
          info_(info) {}

    std::string backing_;
    std::string meta_;
    std::string node_;
    BackingInfo info_;
    std::uint64_t size_ = 0;
    bool closes_ =
        false;  ///< others may read the file, which is empty: make() takes that from them
    bool made_backing_ = false;
    bool made_meta_ = false;
    bool kept_ = false;
};

/// Of a replica that is made now and has nothing yet.
[[nodiscard]] Superblock first_superblock(const VolumeKeeper& keeper, std::uint64_t size);

}  // namespace mirror::daemon
