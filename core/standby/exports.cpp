// SPDX-License-Identifier: BSD-3-Clause
// The exports of a standby replica.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "core/standby/device_watch.hpp"
#include "core/standby/session_member.hpp"
#include "core/standby/zero_piece.hpp"

namespace mirror {
namespace {

Failure not_writable() {
    return fail(ErrorKind::refused, "this export is read-only");
}

class DataExport final : public nbd::Export {
  public:
    explicit DataExport(std::unique_ptr<SessionMember> member) : member_(std::move(member)) {}

    [[nodiscard]] nbd::Traits traits() const override {
        return {.size = member_->backing().size(),
                .flush = true,
                .trim = true,
                .zero = true,
                .multi_conn = true,
                .extents = true,
                .description = "replica, written by the active of this session"};
    }
    /// Replies that nobody fetches stay in locked memory: so many connections have so much of it.
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        if (into.size() > longest_data_read) {
            return fail(ErrorKind::invalid, "the replica is read at most {} at a time",
                        format_size(longest_data_read));
        }
        return member_->watched(MediaOperation::read, {offset, into.size()},
                                [&] { return member_->backing().read(into, offset); });
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        while (true) {
            const std::span<const std::byte> piece = from.first(std::min(from.size(), write_piece));
            if (auto done = write_piece_of(piece, offset); !done || piece.size() == from.size()) {
                return done;
            }
            from = from.subspan(piece.size());
            offset += piece.size();
        }
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space space) override {
        while (!range.empty()) {
            const ByteRange piece{range.offset, std::min(range.length, zero_piece_.bytes())};
            const auto began = std::chrono::steady_clock::now();
            auto done = member_->watched(MediaOperation::write, piece,
                                         [&] { return member_->backing().zero(piece, space); });
            if (!done) {
                return done;
            }
            zero_piece_.done(piece.length, std::chrono::steady_clock::now() - began);
            member_->write_behind().note_zeroes(piece);
            range = {piece.end(), range.length - piece.length};
        }
        return keep_up();
    }
    [[nodiscard]] Result<void> trim(ByteRange range) override {
        return zero(range, Space::may_free);
    }
    [[nodiscard]] Result<void> flush() override {
        return member_->watched(MediaOperation::flush, {},
                                [&] { return member_->write_behind().flush(); });
    }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return member_->backing().extents(range);
    }

  private:
    static constexpr std::size_t write_piece = 1 * MiB;
    /// What stock tools (qemu-img) ask for at most; engines ask for half of it.
    static constexpr std::size_t longest_data_read = 2 * MiB;

    [[nodiscard]] Result<void> write_piece_of(std::span<const std::byte> piece,
                                              std::uint64_t offset) {
        const ByteRange range{offset, piece.size()};
        auto done = member_->watched(MediaOperation::write, range,
                                     [&] { return member_->backing().write(piece, offset); });
        if (!done) {
            return done;
        }
        member_->write_behind().note(range, offset == last_end_);
        last_end_ = range.end();
        return keep_up();
    }
    /// So that nobody waits long for a flush of what was taken: who brings too much waits for the
    /// disk now.
    [[nodiscard]] Result<void> keep_up() {
        return member_->write_behind().is_too_much() ? flush() : Result<void>{};
    }

    std::unique_ptr<SessionMember> member_;
    std::uint64_t last_end_ = 0;
    ZeroPiece zero_piece_;
};

/// What the computed exports share: they can be read, and nothing else.
class ReadOnlyExport : public nbd::Export {
  public:
    [[nodiscard]] Result<void> write(std::span<const std::byte> /*from*/,
                                     std::uint64_t /*offset*/) override {
        return not_writable();
    }
    [[nodiscard]] Result<void> zero(ByteRange /*range*/, Space /*space*/) override {
        return not_writable();
    }
    [[nodiscard]] Result<void> trim(ByteRange /*range*/) override { return not_writable(); }
    [[nodiscard]] Result<void> flush() override { return {}; }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return std::vector<Extent>{{range, false}};
    }
};

class DigestExport final : public ReadOnlyExport {
  public:
    /// 1024 digests, 64 MiB of data: a request must not keep its connection busy for long.
    static constexpr std::uint64_t longest_read = 16 * KiB;

    DigestExport(std::unique_ptr<SessionMember> member, const SessionId& session)
        : member_(std::move(member)),
          digest_(session),
          block_(digest_block_size),
          zero_digest_(digest_(block_)) {}

    [[nodiscard]] nbd::Traits traits() const override {
        return {.size = divide_up(member_->backing().size(), digest_block_size) * sizeof(Digest),
                .read_only = true,
                .description = "XXH3-128 of each 64 KiB block, seeded by the session"};
    }

    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        if (into.size() > longest_read) {
            return fail(ErrorKind::invalid, "digests are read at most {} at a time",
                        format_size(longest_read));
        }
        while (!into.empty()) {
            const auto digest = digest_of(offset / sizeof(Digest));
            if (!digest) {
                return Failure(digest.error());
            }
            const std::size_t skip = offset % sizeof(Digest);
            const std::size_t length = std::min(into.size(), sizeof(Digest) - skip);
            std::memcpy(into.data(), digest->data() + skip, length);
            into = into.subspan(length);
            offset += length;
        }
        return {};
    }

  private:
    [[nodiscard]] Result<Digest> digest_of(std::uint64_t index) {
        const std::uint64_t offset = index * digest_block_size;
        const std::uint64_t length =
            std::min(digest_block_size, member_->backing().size() - offset);
        if (length == digest_block_size && is_hole(member_->backing(), {offset, length})) {
            return zero_digest_;
        }
        const std::span<std::byte> data(block_.data(), length);
        auto read = member_->watched(MediaOperation::read, {offset, length},
                                     [&] { return member_->backing().read(data, offset); });
        if (!read) {
            return Failure(read.error());
        }
        return digest_(data);
    }

    std::unique_ptr<SessionMember> member_;
    const Digester digest_;
    std::vector<std::byte> block_;
    const Digest zero_digest_;
};

class ChangesExport final : public ReadOnlyExport {
  public:
    explicit ChangesExport(const Bitmap& regions)
        : bytes_(std::max<std::uint64_t>(divide_up(regions.size(), 8), 1)) {
        std::uint64_t from = 0;
        while (const auto run = regions.next_run(from, regions.size())) {
            for (std::uint64_t bit = run->first; bit < run->last; ++bit) {
                bytes_[bit / 8] |= std::byte{1} << (bit % 8);
            }
            from = run->last;
        }
    }

    [[nodiscard]] nbd::Traits traits() const override {
        return {.size = bytes_.size(),
                .read_only = true,
                .description = "regions of 1 MiB that may differ from the peer, one bit each"};
    }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        std::memcpy(into.data(), bytes_.data() + offset, into.size());
        return {};
    }

  private:
    std::vector<std::byte> bytes_;
};

/// What is at the disk, and whether it gets on. It must answer whatever the disk does.
class ProgressExport final : public ReadOnlyExport {
  public:
    ProgressExport(std::shared_ptr<DiskActivity> activity, std::string device_counters)
        : activity_(std::move(activity)), device_(std::move(device_counters)) {}

    [[nodiscard]] nbd::Traits traits() const override {
        return {.size = nbd::work_report_size,
                .read_only = true,
                .description = "progress of the work on the replica's disk"};
    }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        if (offset == 0) {  // who reads on wants what he has seen the beginning of
            const SteadyTime now{SteadyTime::duration(activity_->note_request())};
            nbd::store_work_report(report_, activity_->report(device_.last_finished(now)));
        }
        std::memcpy(into.data(), report_.data() + offset, into.size());
        return {};
    }

  private:
    const std::shared_ptr<DiskActivity> activity_;
    DeviceWatch device_;
    std::array<std::byte, nbd::work_report_size> report_{};
};

}  // namespace

std::unique_ptr<nbd::Export> make_progress_export(std::shared_ptr<DiskActivity> activity,
                                                  std::string device_counters) {
    return std::make_unique<ProgressExport>(std::move(activity), std::move(device_counters));
}

std::unique_ptr<nbd::Export> make_data_export(std::unique_ptr<SessionMember> member) {
    return std::make_unique<DataExport>(std::move(member));
}

std::unique_ptr<nbd::Export> make_digest_export(std::unique_ptr<SessionMember> member,
                                                const SessionId& session) {
    return std::make_unique<DigestExport>(std::move(member), session);
}

std::unique_ptr<nbd::Export> make_changes_export(const Bitmap& regions) {
    return std::make_unique<ChangesExport>(regions);
}

}  // namespace mirror
