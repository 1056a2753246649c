// SPDX-License-Identifier: BSD-3-Clause
// The two buffers of a connection in transmission. Both are allocated once and reused, so that a
// request allocates nothing; one that was grown beyond `kept_capacity` for a large request is given
// back after it, so that an idle connection holds little. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

#include "core/base/units.hpp"
#include "core/nbd/stream.hpp"
#include "core/nbd/wire.hpp"

namespace mirror::nbd {

inline constexpr std::size_t kept_capacity = 2 * MiB;

/// Bytes on the heap that are not cleared: pages that are never used cost nothing.
class RawBuffer {
  public:
    explicit RawBuffer(std::size_t capacity) { reset(capacity); }

    [[nodiscard]] std::byte* data() noexcept { return bytes_.get(); }
    [[nodiscard]] const std::byte* data() const noexcept { return bytes_.get(); }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

    /// The content is lost.
    void reset(std::size_t capacity) {
        bytes_ = std::make_unique_for_overwrite<std::byte[]>(capacity);
        capacity_ = capacity;
    }
    /// The first `used` bytes are kept.
    void grow(std::size_t capacity, std::size_t used) {
        auto bytes = std::make_unique_for_overwrite<std::byte[]>(capacity);
        std::memcpy(bytes.get(), bytes_.get(), used);
        bytes_ = std::move(bytes);
        capacity_ = capacity;
    }

  private:
    std::unique_ptr<std::byte[]> bytes_;
    std::size_t capacity_ = 0;
};

/// Received bytes; whole requests are taken from the front. A request always lies in one piece, so
/// its payload goes to the export from here.
class ReceiveBuffer {
  public:
    /// One recv takes this much; a write of 256 KiB, as copying clients like them, comes in one.
    static constexpr std::size_t batch = 256 * KiB + Request::wire_size;

    [[nodiscard]] std::span<const std::byte> pending() const noexcept {
        return {buffer_.data() + begin_, end_ - begin_};
    }
    void consume(std::size_t length) noexcept { begin_ += length; }

    /// Receives more; `needed` is the length of the request at the front, as far as known.
    /// 0 when the client has closed. The client may idle between requests, not within one.
    [[nodiscard]] Result<std::size_t> receive(Stream& stream, std::size_t needed,
                                              std::chrono::milliseconds stall) {
        if (begin_ == end_) {
            begin_ = end_ = 0;
            if (buffer_.capacity() > kept_capacity) {
                buffer_.reset(base_capacity);
            }
        }
        const std::size_t partial = end_ - begin_;
        const Patience patience = partial == 0 ? Patience{} : Patience{.stall = stall};
        std::size_t wanted = batch;
        if (partial >= worth_keeping || needed > batch) {
            // Moving a large part would cost more than one more recv: complete exactly this
            // request where it lies, then begin at the front again.
            wanted = needed - partial;
        } else {
            move_to_front();
        }
        if (begin_ + partial + wanted > buffer_.capacity()) {
            move_to_front();
            if (partial + wanted > buffer_.capacity()) {
                buffer_.grow(partial + wanted, partial);
            }
        }
        Result<std::size_t> got = stream.recv_some({buffer_.data() + end_, wanted}, patience);
        end_ += got.value_or(0);
        return got;
    }

  private:
    static constexpr std::size_t worth_keeping = 16 * KiB;
    /// Room behind a full batch for the rest of its last request.
    static constexpr std::size_t base_capacity = 2 * batch + worth_keeping;

    void move_to_front() noexcept {
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }

    RawBuffer buffer_{base_capacity};
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

/// Replies that wait for one send; read payloads are read into their place here.
class ReplyBuffer {
  public:
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return {buffer_.data(), size_};
    }
    [[nodiscard]] std::byte* at(std::size_t offset) noexcept { return buffer_.data() + offset; }

    /// Room for `length` bytes, not initialised; valid until the next append.
    [[nodiscard]] std::byte* append(std::size_t length) {
        if (size_ + length > buffer_.capacity()) {
            buffer_.grow(std::max(size_ + length, 2 * buffer_.capacity()), size_);
        }
        std::byte* place = buffer_.data() + size_;
        size_ += length;
        return place;
    }
    void truncate(std::size_t size) noexcept { size_ = size; }
    void clear() {
        size_ = 0;
        if (buffer_.capacity() > kept_capacity) {
            buffer_.reset(base_capacity);
        }
    }

  private:
    static constexpr std::size_t base_capacity = 64 * KiB;

    RawBuffer buffer_{base_capacity};
    std::size_t size_ = 0;
};

}  // namespace mirror::nbd
