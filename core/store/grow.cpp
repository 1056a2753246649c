// SPDX-License-Identifier: BSD-3-Clause
#include "core/store/grow.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/store/file_store.hpp"

namespace mirror {
namespace {

/// A file that is a hole takes any length of it at once; a disk without a fast way writes it all.
constexpr std::uint64_t step = 64 * MiB;

Result<void> zero_stepwise(FileStore& store, ByteRange range, const std::function<bool()>& stop) {
    while (!range.empty()) {
        if (stop()) {
            return fail(ErrorKind::busy, "{}: stopped while its new part was zeroed", store.path());
        }
        const std::uint64_t length = std::min(range.length, step);
        if (auto done = store.zero({range.offset, length}, Space::may_free); !done) {
            return done;
        }
        range = {range.offset + length, range.length - length};
    }
    return store.flush();
}

Result<void> lengthen_file(const std::string& path, std::uint64_t to) {
    const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd.is_open() || ::ftruncate(fd.get(), static_cast<off_t>(to)) != 0 ||
        ::fsync(fd.get()) != 0) {
        return fail_errno(errno, fmt::format("{}: cannot be made {} bytes long", path, to));
    }
    return {};
}

}  // namespace

Result<void> grow_backing(const std::string& path, std::uint64_t from, std::uint64_t to,
                          const std::function<bool()>& stop) {
    const auto info = inspect_backing(path);
    if (!info) {
        return Failure(info.error());
    }
    if (info->size < from || (info->is_block_device && info->size < to)) {
        return fail(ErrorKind::refused, "{} has {} bytes, and {} are needed", path, info->size, to);
    }
    // Whoever owns the replica has the lock, and uses only what is before `from`.
    auto store = FileStore::open(path, FileStore::Lock::none);
    if (!store) {
        return Failure(store.error());
    }
    const std::uint64_t there = std::min(info->size, to);
    if (from < there) {
        if (auto zeroed = zero_stepwise(**store, {from, there - from}, stop); !zeroed) {
            return zeroed;
        }
    }
    return info->size < to ? lengthen_file(path, to) : Result<void>{};
}

}  // namespace mirror
