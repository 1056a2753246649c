// SPDX-License-Identifier: BSD-3-Clause
// The one interface behind which a backing file, a block device, the metadata file and the
// fault-injecting stores of the tests stand. Thread-safe as pread/pwrite are: concurrent calls on
// ranges that do not overlap are independent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/units.hpp"

namespace mirror {

/// How far Store::write_back() goes.
enum class WriteBack { begin, await };

/// Whether zeroing may give the space back.
enum class Space { may_free, keep_allocated };

struct Extent {
    ByteRange range;
    bool hole = false;  ///< reads as zeroes and takes no space
};

class Store {
  public:
    virtual ~Store() = default;

    [[nodiscard]] virtual std::uint64_t size() const noexcept = 0;
    /// All or nothing; the range must lie within size(). A failure names the file.
    [[nodiscard]] virtual Result<void> read(std::span<std::byte> into, std::uint64_t offset) = 0;
    /// Reads what is in memory, without ever waiting for the disk; false when it can't, and for
    /// every error: read() then says what is wrong.
    [[nodiscard]] virtual bool read_cached(std::span<std::byte> /*into*/,
                                           std::uint64_t /*offset*/) noexcept {
        return false;
    }
    [[nodiscard]] virtual Result<void> write(std::span<const std::byte> from,
                                             std::uint64_t offset) = 0;
    /// The range reads as zeroes afterwards, however the space is handled.
    [[nodiscard]] virtual Result<void> zero(ByteRange range, Space space) = 0;
    /// Everything written before the call is durable when it returns.
    [[nodiscard]] virtual Result<void> flush() = 0;
    /// As flush(), the times of a file included. Returns its change mark (identity.hpp): another
    /// one when it was written to afterwards. 0: it has none.
    [[nodiscard]] virtual Result<std::uint64_t> seal() {
        return flush().map([] { return std::uint64_t{0}; });
    }
    /// Begins to bring to the disk what was written in the range; with `await` it is there when
    /// this returns. Not durable for that: the disk may have it in its cache. It breaks a flush()
    /// into pieces, takes nothing of it away, and an error is an error of the flush. A store that
    /// has no such pieces does nothing.
    [[nodiscard]] virtual Result<void> write_back(ByteRange /*range*/, WriteBack /*how*/) {
        return {};
    }
    /// Where the kernel counts what the device below has finished, for any of its users; empty:
    /// nowhere. Reading there never waits for the device.
    [[nodiscard]] virtual std::string device_counters() const { return {}; }
    /// Covers the range without gaps, in order. One data extent where holes can't be told. In a
    /// file it looks for the end of the last data, however far behind the range that is.
    [[nodiscard]] virtual Result<std::vector<Extent>> extents(ByteRange range) = 0;
    /// So many bytes at the range's beginning are a hole, which reads as zeroes. 0: none, or it
    /// can't be told. Quick wherever the data ends, so it may be asked for each piece of a volume.
    [[nodiscard]] virtual std::uint64_t hole_length(ByteRange range) {
        const auto found = extents(range);
        const bool begins = found && !found->empty() && found->front().hole;
        return begins ? found->front().range.length : 0;
    }
};

[[nodiscard]] inline bool is_hole(Store& store, ByteRange range) {
    return store.hole_length(range) == range.length;
}

}  // namespace mirror
