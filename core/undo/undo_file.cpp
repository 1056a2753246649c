// SPDX-License-Identifier: BSD-3-Clause
#include "core/undo/undo_file.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "core/base/checksum.hpp"
#include "core/base/trusted_file.hpp"

namespace mirror {
namespace {

Result<void> read_at(int fd, const std::string& path, std::span<std::byte> into, std::uint64_t at) {
    while (!into.empty()) {
        const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(at));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_errno(errno, path);
        }
        if (got == 0) {
            return fail(ErrorKind::corrupt, "{}: it ends too early", path);
        }
        into = into.subspan(static_cast<std::size_t>(got));
        at += static_cast<std::uint64_t>(got);
    }
    return {};
}

Result<undo::Header> read_header(int fd, const std::string& path, std::uint64_t file_size) {
    std::array<std::byte, undo::header_size> bytes{};
    if (auto got = read_at(fd, path, bytes, 0); !got) {
        return Failure(got.error());
    }
    auto header = undo::decode(bytes);
    if (!header) {
        return Failure(header.error().within(path));
    }
    // Divided, not multiplied: the numbers are foreign.
    if (header->map_at < undo::header_size || header->map_at > file_size ||
        (file_size - header->map_at) % undo::entry_size != 0 ||
        (file_size - header->map_at) / undo::entry_size != header->pieces) {
        return fail(ErrorKind::corrupt, "{}: it has {} bytes, which is not its length", path,
                    file_size);
    }
    return header;
}

}  // namespace

Result<UndoFile> UndoFile::open(const std::string& path) {
    auto opened = open_to_show(path);
    if (!opened) {
        return Failure(opened.error());
    }
    Fd fd = std::move(*opened);
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) {
        return fail_errno(errno, path);
    }
    auto header = read_header(fd.get(), path, static_cast<std::uint64_t>(info.st_size));
    if (!header) {
        return Failure(header.error());
    }
    std::vector<std::byte> map(header->pieces * undo::entry_size);
    if (auto got = read_at(fd.get(), path, map, header->map_at); !got) {
        return Failure(got.error());
    }
    auto pieces = undo::decode_map(map, *header);
    if (!pieces) {
        return Failure(pieces.error().within(path));
    }
    return UndoFile(std::move(fd), path, std::move(*header), std::move(*pieces));
}

std::uint64_t UndoFile::runs() const noexcept {
    std::uint64_t runs = 0;
    std::uint64_t end = 0;
    for (const UndoPiece& piece : pieces_) {
        runs += runs == 0 || piece.range.offset != end ? 1 : 0;
        end = piece.range.end();
    }
    return runs;
}

Result<void> UndoFile::read(const UndoPiece& piece, std::span<std::byte> into) const {
    if (piece.data_at == 0) {
        std::fill(into.begin(), into.end(), std::byte{0});
        return {};
    }
    if (auto got = read_at(fd_.get(), path_, into, piece.data_at); !got) {
        return got;
    }
    if (crc32c(into) != piece.crc) {
        return fail(ErrorKind::corrupt, "{}: the saved content of bytes {} to {} is damaged", path_,
                    piece.range.offset, piece.range.end() - 1);
    }
    return {};
}

}  // namespace mirror
