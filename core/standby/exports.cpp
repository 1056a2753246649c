// SPDX-License-Identifier: BSD-3-Clause
// The three exports of a standby replica.
#include <algorithm>
#include <array>
#include <cstring>

#include "core/standby/session_member.hpp"

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
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        return member_->watched(MediaOperation::read, {offset, into.size()},
                                [&] { return member_->backing().read(into, offset); });
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        return member_->watched(MediaOperation::write, {offset, from.size()},
                                [&] { return member_->backing().write(from, offset); });
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space space) override {
        return member_->watched(MediaOperation::write, range,
                                [&] { return member_->backing().zero(range, space); });
    }
    [[nodiscard]] Result<void> trim(ByteRange range) override {
        return zero(range, Space::may_free);
    }
    [[nodiscard]] Result<void> flush() override {
        return member_->watched(MediaOperation::flush, {},
                                [&] { return member_->backing().flush(); });
    }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return member_->backing().extents(range);
    }

  private:
    std::unique_ptr<SessionMember> member_;
};

/// What the two computed exports share: they can be read, and nothing else.
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

}  // namespace

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
