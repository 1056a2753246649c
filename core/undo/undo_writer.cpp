// SPDX-License-Identifier: BSD-3-Clause
#include "core/undo/undo_writer.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

#include "core/base/checksum.hpp"
#include "core/base/trusted_file.hpp"

namespace mirror {
namespace {

/// Zeroes are told from data at this grain.
constexpr std::uint64_t zero_grain = 4 * KiB;

bool is_zero_at(std::span<const std::byte> data, std::uint64_t at) {
    return is_zero(data.subspan(at, std::min<std::uint64_t>(zero_grain, data.size() - at)));
}

/// How much of the front of `data` is alike, all zeroes or not; at most a piece.
std::uint64_t alike_length(std::span<const std::byte> data, bool zero) {
    const std::uint64_t longest = std::min<std::uint64_t>(data.size(), undo_piece_size);
    std::uint64_t length = std::min(zero_grain, longest);
    while (length < longest && is_zero_at(data, length) == zero) {
        length = std::min(length + zero_grain, longest);
    }
    return length;
}

}  // namespace

DurableCalls DurableCalls::of_the_system() {
    return {.sync = ::fsync, .rename = ::rename};
}

Result<UndoWriter> UndoWriter::create(const std::string& path, UndoInfo info, DurableCalls calls) {
    // Until the rename nobody else makes it: one resolution at a time, by the volume's operation.
    if (::access(path.c_str(), F_OK) == 0) {
        return fail(ErrorKind::refused, "{}: exists already", path);
    }
    const std::string part = path + ".part";
    auto fd = make_own_file(part);
    if (!fd) {
        return Failure(fd.error());
    }
    return UndoWriter(std::move(*fd), path, std::move(info), std::move(calls));
}

UndoWriter::~UndoWriter() {
    if (fd_.is_open()) {
        ::unlink(part().c_str());
    }
}

Result<void> UndoWriter::add(std::uint64_t offset, std::span<const std::byte> data) {
    while (!data.empty()) {
        const bool zero = is_zero_at(data, 0);
        const std::uint64_t length = alike_length(data, zero);
        const std::span<const std::byte> piece = data.first(length);
        if (zero) {
            pieces_.push_back({{offset, length}, 0, 0});
        } else {
            if (auto written = put(piece, end_); !written) {
                return written;
            }
            pieces_.push_back({{offset, length}, end_, crc32c(piece)});
            end_ += length;
        }
        saved_ += length;
        offset += length;
        data = data.subspan(length);
    }
    return {};
}

Result<void> UndoWriter::finish() {
    const std::vector<std::byte> map = undo::encode_map(pieces_);
    std::array<std::byte, undo::header_size> header{};
    auto done = undo::encode(undo::Header{info_, end_, pieces_.size(), saved_, crc32c(map)}, header)
                    .and_then([&] { return put(map, end_); })
                    .and_then([&] { return put(header, 0); });
    if (!done) {
        return done;
    }
    if (calls_.sync(fd_.get()) != 0) {
        return fail_errno(errno, part());
    }
    return publish().map([&] { fd_.reset(); });
}

Result<void> UndoWriter::publish() const {
    if (calls_.rename(part().c_str(), path_.c_str()) != 0) {
        return fail_errno(errno, path_);
    }
    if (auto synced = sync_folder(); !synced) {
        ::unlink(path_.c_str());
        return synced;
    }
    return {};
}

Result<void> UndoWriter::sync_folder() const {
    const std::string folder = std::filesystem::path(path_).parent_path().string();
    return mirror::sync_folder(folder, calls_.sync);
}

Result<void> UndoWriter::put(std::span<const std::byte> data, std::uint64_t at) const {
    while (!data.empty()) {
        const ssize_t done = ::pwrite(fd_.get(), data.data(), data.size(), static_cast<off_t>(at));
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return fail_errno(done < 0 ? errno : ENOSPC, part());
        }
        data = data.subspan(static_cast<std::size_t>(done));
        at += static_cast<std::uint64_t>(done);
    }
    return {};
}

std::uint64_t UndoWriter::space_for(std::uint64_t bytes, std::uint64_t runs) noexcept {
    // A run may be cut wherever zeroes begin or end, at worst at each grain.
    const std::uint64_t pieces = runs + divide_up(bytes, zero_grain);
    return undo::header_size + bytes + pieces * undo::entry_size;
}

}  // namespace mirror
