// SPDX-License-Identifier: BSD-3-Clause
// A Store on a regular file or a block device. Owns the descriptor and, where asked, an exclusive
// lock (flock; for a device also O_EXCL, which the kernel refuses while it is mounted), so that
// two processes never write one replica.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/base/fd.hpp"
#include "core/store/store.hpp"

namespace mirror {

struct BackingInfo {
    bool exists = false;
    bool is_block_device = false;
    std::uint64_t size = 0;  ///< bytes; 0 when it does not exist
    bool has_data = false;   ///< false for a file that is all hole; a device always counts
};

/// Looks without opening for writing and without a lock.
[[nodiscard]] Result<BackingInfo> inspect_backing(const std::string& path);

/// Makes a sparse file of `size` bytes, durably; fails if something is there.
[[nodiscard]] Result<void> create_backing_file(const std::string& path, std::uint64_t size);

class FileStore final : public Store {
  public:
    enum class Lock { exclusive, none };

    /// Opens an existing file or device for reading and writing. `busy` when it is locked by
    /// another process, with its pid where /proc/locks tells it.
    [[nodiscard]] static Result<std::unique_ptr<FileStore>> open(const std::string& path,
                                                                 Lock lock);

    [[nodiscard]] std::uint64_t size() const noexcept override { return size_; }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override;
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override;
    [[nodiscard]] Result<void> zero(ByteRange range, Space space) override;
    [[nodiscard]] Result<void> flush() override;
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override;

    [[nodiscard]] const std::string& path() const noexcept { return path_; }

  private:
    FileStore(Fd fd, std::string path, std::uint64_t size, bool is_device, std::uint64_t alignment)
        : fd_(std::move(fd)),
          path_(std::move(path)),
          size_(size),
          is_device_(is_device),
          alignment_(alignment) {}

    Fd fd_;
    std::string path_;
    std::uint64_t size_;
    bool is_device_;
    std::uint64_t alignment_;  ///< of holes that can be punched, bytes
};

}  // namespace mirror
