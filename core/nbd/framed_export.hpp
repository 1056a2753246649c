// SPDX-License-Identifier: BSD-3-Clause
// The framed form of an export (core/nbd/frame.hpp): takes frames apart, checks them before
// anything is applied, and puts trailers behind what is read. What was garbled on its way is
// reported once, refused, and ends the connection; nothing that comes behind it is applied.
//
// Lives on its connection's thread like the export that it owns.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>

#include "core/nbd/export.hpp"
#include "core/nbd/frame.hpp"

namespace mirror::nbd {

class FramedExport final : public Export {
  public:
    using Report = std::function<void(const Error&)>;

    FramedExport(std::unique_ptr<Export> inner, Report garbled);

    [[nodiscard]] Traits traits() const override;
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override;
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override;
    [[nodiscard]] Result<void> zero(ByteRange range, Space space) override;
    [[nodiscard]] Result<void> trim(ByteRange range) override;
    [[nodiscard]] Result<void> flush() override;
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override;
    [[nodiscard]] bool wants_flush() const noexcept override { return wants_flush_; }
    [[nodiscard]] bool is_over() const noexcept override { return over_; }

  private:
    using RawHeader = std::array<std::byte, FrameHeader::wire_size>;

    [[nodiscard]] Result<void> take(std::span<const std::byte, FrameHeader::wire_size> header,
                                    std::span<const std::byte> data);
    [[nodiscard]] Result<void> apply(const FrameHeader& header, std::span<const std::byte> data);
    [[nodiscard]] Failure refuse(ErrorKind kind, const std::string& why);

    const std::unique_ptr<Export> inner_;
    const Report garbled_;
    const Traits inner_traits_;
    std::uint64_t next_sequence_ = 1;
    std::optional<RawHeader> waiting_;  ///< its data come with the next request
    bool wants_flush_ = false;
    bool over_ = false;
};

}  // namespace mirror::nbd
