// SPDX-License-Identifier: BSD-3-Clause
#include "core/store/file_store.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/store/identity.hpp"

namespace mirror {
namespace {

constexpr std::array<std::byte, 256 * KiB> zeroes{};

std::string describe(std::string_view path, std::string_view verb, ByteRange range) {
    return fmt::format("{}: {} of {} bytes at {}", path, verb, range.length, range.offset);
}

bool fallocate_whole(int fd, int mode, ByteRange range) {
    int result = -1;
    do {
        result = ::fallocate(fd, mode, static_cast<off_t>(range.offset),
                             static_cast<off_t>(range.length));
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

/// The part of the range that consists of whole blocks; empty at the range's end if none does.
ByteRange aligned_middle(ByteRange range, std::uint64_t alignment) {
    const std::uint64_t first = divide_up(range.offset, alignment) * alignment;
    const std::uint64_t last = range.end() / alignment * alignment;
    return first < last ? ByteRange{first, last - first} : ByteRange{range.end(), 0};
}

}  // namespace

Result<void> FileStore::use_first(std::uint64_t bytes) {
    if (bytes > size_) {
        return fail(ErrorKind::invalid, "{} has {} bytes, and {} are needed", path_, size_, bytes);
    }
    size_ = bytes;
    return {};
}

Result<void> FileStore::check_range(std::string_view verb, ByteRange range) const {
    if (!range.fits_in(size_)) {
        return fail(ErrorKind::invalid, "{} goes beyond its {} bytes", describe(path_, verb, range),
                    size_);
    }
    return {};
}

Result<void> FileStore::read(std::span<std::byte> into, std::uint64_t offset) {
    const ByteRange range{offset, into.size()};
    if (auto inside = check_range("read", range); !inside) {
        return inside;
    }
    while (!into.empty()) {
        const ssize_t got =
            ::pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_errno(errno, describe(path_, "read", range));
        }
        if (got == 0) {
            return fail(ErrorKind::io, "{}: it ends at {}: it was cut short",
                        describe(path_, "read", range), offset);
        }
        into = into.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
    return {};
}

bool FileStore::read_cached(std::span<std::byte> into, std::uint64_t offset) noexcept {
    const ByteRange range{offset, into.size()};
    if (into.empty() || !range.fits_in(size_)) {
        return false;
    }
    iovec target{into.data(), into.size()};
    const ssize_t got = ::preadv2(fd_.get(), &target, 1, static_cast<off_t>(offset), RWF_NOWAIT);
    return got == static_cast<ssize_t>(into.size());
}

void FileStore::forget_cache() const noexcept {
    (void)::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
}

Result<void> FileStore::write(std::span<const std::byte> from, std::uint64_t offset) {
    const ByteRange range{offset, from.size()};
    if (auto inside = check_range("write", range); !inside) {
        return inside;
    }
    while (!from.empty()) {
        const ssize_t done =
            ::pwrite(fd_.get(), from.data(), from.size(), static_cast<off_t>(offset));
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return fail_errno(done < 0 ? errno : EIO, describe(path_, "write", range));
        }
        from = from.subspan(static_cast<std::size_t>(done));
        offset += static_cast<std::uint64_t>(done);
    }
    return {};
}

Result<void> FileStore::write_zeroes(ByteRange range) {
    while (!range.empty()) {
        const std::uint64_t length = std::min<std::uint64_t>(range.length, zeroes.size());
        if (auto done = write(std::span(zeroes).first(length), range.offset); !done) {
            return done;
        }
        range = {range.offset + length, range.length - length};
    }
    return {};
}

/// Without sending zeroes, where the filesystem or device can. Any failure means "no": writing
/// the zeroes then works, or says what is wrong.
bool FileStore::zero_at_once(ByteRange range, Space space) {
    if (space == Space::may_free &&
        fallocate_whole(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range)) {
        return true;
    }
    return fallocate_whole(fd_.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, range);
}

Result<void> FileStore::zero(ByteRange range, Space space) {
    if (auto inside = check_range("zeroing", range); !inside) {
        return inside;
    }
    const ByteRange middle = aligned_middle(range, alignment_);
    if (middle.empty() || !zero_at_once(middle, space)) {
        return write_zeroes(range);
    }
    if (auto head = write_zeroes({range.offset, middle.offset - range.offset}); !head) {
        return head;
    }
    return write_zeroes({middle.end(), range.end() - middle.end()});
}

Result<void> FileStore::fill_holes(ByteRange range) {
    const auto found = extents(range);
    if (!found) {
        return Failure(found.error());
    }
    for (const Extent& extent : *found) {
        if (!extent.hole) {
            continue;
        }
        if (auto written = write_zeroes(extent.range); !written) {
            return written;
        }
    }
    return {};
}

Result<void> FileStore::allocate(ByteRange range) {
    if (auto inside = check_range("allocation", range); !inside) {
        return inside;
    }
    return range.empty() || fallocate_whole(fd_.get(), 0, range)
               ? Result<void>{}
               : fail_errno(errno, describe(path_, "allocation", range));
}

std::uint64_t FileStore::allocated_bytes() const noexcept {
    struct stat status {};
    constexpr std::uint64_t unit = 512;  // of st_blocks, whatever st_blksize is
    return ::fstat(fd_.get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * unit
                                            : 0;
}

Result<void> FileStore::flush() {
    return flushes_.run([this] { return sync(); });
}

Result<void> FileStore::sync() {
    if (flush_error_) {
        return Failure(*flush_error_);
    }
    int result = -1;
    do {
        result = ::fdatasync(fd_.get());
    } while (result != 0 && errno == EINTR);
    return result == 0 ? Result<void>{} : flush_failed(errno);
}

Result<void> FileStore::flush_failed(int os_error) {
    flush_error_ = fail_errno(os_error, path_ + ": flush").value();
    flush_error_->remedy = "data written since the last flush may be lost";
    return Failure(*flush_error_);
}

/// The kernel tells a descriptor of a lost write once, and this may be the call that it tells: the
/// fdatasync() behind it would succeed then.
Result<void> FileStore::write_back(ByteRange range, WriteBack how) {
    const unsigned flags =
        SYNC_FILE_RANGE_WRITE |
        (how == WriteBack::await ? SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER : 0U);
    int result = -1;
    do {
        result = ::sync_file_range(fd_.get(), static_cast<off_t>(range.offset),
                                   static_cast<off_t>(range.length), flags);
    } while (result != 0 && errno == EINTR);
    const int problem = errno;
    if (result == 0 || problem == ENOSYS || problem == EINVAL || problem == ESPIPE) {
        return {};  // where there is no such call the flush does it all
    }
    return flushes_.run([&]() -> Result<void> {
        return flush_error_ ? Failure(*flush_error_) : flush_failed(problem);
    });
}

std::string FileStore::device_counters() const {
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) {
        return {};
    }
    const dev_t device = is_device_ ? status.st_rdev : status.st_dev;
    return fmt::format("/sys/dev/block/{}:{}/stat", major(device), minor(device));
}

Result<std::uint64_t> FileStore::seal() {
    if (auto flushed = flush(); !flushed) {
        return Failure(flushed.error());
    }
    // A flush alone leaves the times of the last write in memory: after a power cut the mark would
    // be an older one.
    if (!is_device_ && ::fsync(fd_.get()) != 0) {
        return fail_errno(errno, path_ + ": flush");
    }
    return change_mark();
}

Result<std::string> FileStore::identity() const {
    return identity_of(fd_.get(), path_);
}

Result<std::uint64_t> FileStore::change_mark() const {
    return mirror::change_mark(fd_.get(), path_);
}

Result<std::vector<Extent>> FileStore::extents(ByteRange range) {
    if (auto inside = check_range("looking for holes", range); !inside) {
        return Failure(inside.error());
    }
    std::vector<Extent> found;
    std::uint64_t at = range.offset;
    const auto add = [&](std::uint64_t end, bool hole) {
        if (end > at) {
            found.push_back({{at, end - at}, hole});
            at = end;
        }
    };
    while (at < range.end()) {
        const off_t data = is_device_ ? static_cast<off_t>(at)
                                      : ::lseek(fd_.get(), static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            add(range.end(), true);
            break;
        }
        const off_t hole = is_device_ || data < 0 ? -1 : ::lseek(fd_.get(), data, SEEK_HOLE);
        if (data >= 0) {
            add(std::min(static_cast<std::uint64_t>(data), range.end()), true);
        }
        // Where holes can't be told, or a writer fills them as we look, the rest counts as data.
        const bool known = hole >= 0 && static_cast<std::uint64_t>(hole) > at;
        add(known ? std::min(static_cast<std::uint64_t>(hole), range.end()) : range.end(), false);
    }
    return found;
}

std::uint64_t FileStore::hole_length(ByteRange range) {
    if (is_device_ || range.empty() || !range.fits_in(size_)) {
        return 0;
    }
    const off_t data = ::lseek(fd_.get(), static_cast<off_t>(range.offset), SEEK_DATA);
    if (data < 0) {
        return errno == ENXIO ? range.length : 0;
    }
    return std::min(static_cast<std::uint64_t>(data) - range.offset, range.length);
}

}  // namespace mirror
