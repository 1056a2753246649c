// SPDX-License-Identifier: BSD-3-Clause
// A Store on a regular file or a block device. Owns the descriptor and, where asked, an exclusive
// lock (flock; for a device also O_EXCL, which the kernel refuses while it is mounted), so that
// two processes never write one replica. Concurrent flushes share one fdatasync(). After a flush
// has failed every later one fails too, until the file is opened anew: the kernel reports a lost
// write once and then forgets it, so that a second try would promise what is gone.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/base/fd.hpp"
#include "core/base/shared_flush.hpp"
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

/// Makes a sparse file of `size` bytes, durably; `refused` if something is there. A failure
/// leaves nothing behind.
[[nodiscard]] Result<void> create_backing_file(const std::string& path, std::uint64_t size);

class FileStore final : public Store {
  public:
    enum class Lock { exclusive, none };

    /// Opens an existing file or device, whose size must be a multiple of 512 bytes, for reading
    /// and writing. `busy` when it is locked by another process, with its pid where /proc/locks
    /// tells it. A device is tried for a second, since udev locks it for moments, too.
    [[nodiscard]] static Result<std::unique_ptr<FileStore>> open(const std::string& path,
                                                                 Lock lock);

    /// What a volume uses of it: the file may be longer, where it grew before the volume did.
    /// Called before anybody else knows this store. Fails when the file is shorter.
    [[nodiscard]] Result<void> use_first(std::uint64_t bytes);

    [[nodiscard]] std::uint64_t size() const noexcept override { return size_; }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override;
    [[nodiscard]] bool read_cached(std::span<std::byte> into,
                                   std::uint64_t offset) noexcept override;
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override;
    [[nodiscard]] Result<void> zero(ByteRange range, Space space) override;
    [[nodiscard]] Result<void> flush() override;
    [[nodiscard]] Result<std::uint64_t> seal() override;
    [[nodiscard]] Result<void> write_back(ByteRange range, WriteBack how) override;
    [[nodiscard]] std::string device_counters() const override;
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override;
    [[nodiscard]] std::uint64_t hole_length(ByteRange range) override;

    /// Writes zeroes where the range is a hole, so that writing to it needs no space any more. The
    /// caller has the only hand on the range.
    [[nodiscard]] Result<void> fill_holes(ByteRange range);
    /// Gives the holes of the range space; they may still be told as holes. Beside other writers.
    [[nodiscard]] Result<void> allocate(ByteRange range);
    /// What the file takes on its filesystem; 0 when it can't be told.
    [[nodiscard]] std::uint64_t allocated_bytes() const noexcept;

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// What it is beside its path (identity.hpp).
    [[nodiscard]] Result<std::string> identity() const;
    [[nodiscard]] Result<std::uint64_t> change_mark() const;
    /// Drops what the page cache holds: after a failed flush it may hold what the disk lacks.
    void forget_cache() const noexcept;

  private:
    FileStore(Fd fd, std::string path, std::uint64_t size, bool is_device, std::uint64_t alignment)
        : fd_(std::move(fd)),
          path_(std::move(path)),
          size_(size),
          is_device_(is_device),
          alignment_(alignment) {}

    [[nodiscard]] Result<void> sync();
    [[nodiscard]] Result<void> flush_failed(int os_error);
    [[nodiscard]] Result<void> check_range(std::string_view verb, ByteRange range) const;
    [[nodiscard]] Result<void> write_zeroes(ByteRange range);
    [[nodiscard]] bool zero_at_once(ByteRange range, Space space);

    const Fd fd_;
    const std::string path_;
    std::uint64_t size_;
    const bool is_device_;
    const std::uint64_t alignment_;  ///< of what can be zeroed without writing, bytes

    SharedFlush flushes_;
    std::optional<Error> flush_error_;  ///< of whoever runs in flushes_
};

}  // namespace mirror
