// SPDX-License-Identifier: BSD-3-Clause
#include "core/undo/undo_export.hpp"

#include <cerrno>
#include <fcntl.h>
#include <span>
#include <unistd.h>

#include "core/base/trusted_file.hpp"

namespace mirror {
namespace {

Result<void> write_at(const Fd& fd, const std::string& path, std::span<const std::byte> data,
                      std::uint64_t at) {
    while (!data.empty()) {
        const ssize_t done = ::pwrite(fd.get(), data.data(), data.size(), static_cast<off_t>(at));
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return fail_errno(done < 0 ? errno : ENOSPC, path);
        }
        data = data.subspan(static_cast<std::size_t>(done));
        at += static_cast<std::uint64_t>(done);
    }
    return {};
}

Result<UndoExport> write_pieces(const UndoFile& undo, const Fd& fd, const std::string& path,
                                bool zeroes_too) {
    UndoExport report;
    std::vector<std::byte> buffer(undo_piece_size);
    for (const UndoPiece& piece : undo.pieces()) {
        const std::span<std::byte> data(buffer.data(), piece.range.length);
        if (auto got = undo.read(piece, data); !got) {
            if (got.error().kind != ErrorKind::corrupt) {
                return Failure(got.error());
            }
            report.damaged.push_back(piece.range);
            continue;
        }
        if (piece.data_at != 0 || zeroes_too) {
            if (auto written = write_at(fd, path, data, piece.range.offset); !written) {
                return Failure(written.error());
            }
        }
        report.written_bytes += piece.range.length;
    }
    if (::fsync(fd.get()) != 0) {
        return fail_errno(errno, path);
    }
    return report;
}

}  // namespace

Result<UndoExport> export_image(const UndoFile& undo, const std::string& path) {
    const auto made = open_own_file(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (!made) {
        return made.error().os_error == EEXIST
                   ? Failure(Error{ErrorKind::refused, fmt::format("{}: exists already", path),
                                   "name a file that does not exist; --over writes "
                                   "into one that does"})
                   : Failure(made.error());
    }
    const Fd& fd = *made;
    Result<UndoExport> report;
    if (::ftruncate(fd.get(), static_cast<off_t>(undo.info().volume_size)) != 0) {
        report = fail_errno(errno, path);
    } else {
        report = write_pieces(undo, fd, path, false);
    }
    if (!report) {
        ::unlink(path.c_str());
    }
    return report;
}

Result<UndoExport> export_over(const UndoFile& undo, const std::string& path) {
    const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd.is_open()) {
        return fail_errno(errno, path);
    }
    const off_t size = ::lseek(fd.get(), 0, SEEK_END);
    if (size < 0 || static_cast<std::uint64_t>(size) < undo.info().volume_size) {
        return Failure(Error{
            ErrorKind::refused,
            fmt::format("{} has {} bytes, the volume has {}", path, size, undo.info().volume_size),
            "--over writes into a copy of the volume"});
    }
    return write_pieces(undo, fd, path, true);
}

}  // namespace mirror
