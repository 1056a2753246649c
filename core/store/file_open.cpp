// SPDX-License-Identifier: BSD-3-Clause
// Opening a FileStore: what may be opened, and the locks that keep everybody else out.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fcntl.h>
#include <linux/fs.h>
#include <string>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <thread>

#include "core/base/lock_holder.hpp"
#include "core/store/file_store.hpp"
#include "core/store/sector.hpp"

namespace mirror {
namespace {

constexpr std::chrono::milliseconds device_patience{1000};
constexpr std::chrono::milliseconds device_retry{20};

Failure locked_by_another(const std::string& path, const struct stat& status) {
    const long pid = lock_holder(status).pid;
    return Failure(Error{ErrorKind::busy,
                         pid > 0 ? fmt::format("{}: is in use by process {}", path, pid)
                                 : fmt::format("{}: is in use by another process", path),
                         "stop that process first: two writers would destroy the replica",
                         EWOULDBLOCK});
}

Failure not_opened(const std::string& path, int os_error) {
    if (os_error == EBUSY) {
        return Failure(Error{ErrorKind::busy,
                             fmt::format("{}: is mounted or in use by another program", path),
                             "unmount it or stop that program first", os_error});
    }
    return fail_errno(os_error, path);
}

/// One try at an open descriptor with the locks.
Result<Fd> open_once(const std::string& path, bool is_device, bool exclusive) {
    const int only_here = is_device && exclusive ? O_EXCL : 0;
    Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | only_here));
    if (!fd.is_open()) {
        return not_opened(path, errno);
    }
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) {
        return fail_errno(errno, path);
    }
    if (is_device ? !S_ISBLK(status.st_mode) : !S_ISREG(status.st_mode)) {
        return fail(ErrorKind::busy, "{}: was replaced while it was opened", path);
    }
    if (exclusive && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? locked_by_another(path, status) : fail_errno(errno, path);
    }
    return fd;
}

Result<Fd> open_patiently(const std::string& path, bool is_device, bool exclusive) {
    const auto deadline = std::chrono::steady_clock::now() + device_patience;
    for (;;) {
        Result<Fd> fd = open_once(path, is_device, exclusive);
        if (fd || !is_device || fd.error().kind != ErrorKind::busy ||
            std::chrono::steady_clock::now() >= deadline) {
            return fd;
        }
        std::this_thread::sleep_for(device_retry);
    }
}

struct Shape {
    std::uint64_t size = 0;
    std::uint64_t alignment = 1;
};

Result<Shape> shape_of(int fd, bool is_device, const std::string& path) {
    if (!is_device) {
        struct stat status {};
        if (::fstat(fd, &status) != 0) {
            return fail_errno(errno, path);
        }
        return Shape{.size = static_cast<std::uint64_t>(status.st_size)};
    }
    Shape shape;
    int block = 0;
    if (::ioctl(fd, BLKGETSIZE64, &shape.size) != 0 || ::ioctl(fd, BLKSSZGET, &block) != 0) {
        return fail_errno(errno, path);
    }
    // Zeroing on the device goes past the page cache: whole pages, so that a page never holds
    // both a part that it drops and a neighbour's fresh bytes.
    shape.alignment = std::max(static_cast<std::uint64_t>(block),
                               static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
    return shape;
}

}  // namespace

Result<std::unique_ptr<FileStore>> FileStore::open(const std::string& path, Lock lock) {
    // Opening a pipe or a tape has effects of its own: look first.
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        return fail_errno(errno, path);
    }
    const bool is_device = S_ISBLK(status.st_mode);
    if (!is_device && !S_ISREG(status.st_mode)) {
        return fail(ErrorKind::invalid, "{}: is neither a file nor a block device", path);
    }
    Result<Fd> fd = open_patiently(path, is_device, lock == Lock::exclusive);
    if (!fd) {
        return Failure(fd.error());
    }
    const Result<Shape> shape = shape_of(fd->get(), is_device, path);
    if (!shape) {
        return Failure(shape.error());
    }
    if (!is_sector_multiple(shape->size)) {
        return fail(ErrorKind::invalid, "{}: its size of {} bytes is not a multiple of {}", path,
                    shape->size, sector_size);
    }
    return std::unique_ptr<FileStore>(
        new FileStore(std::move(*fd), path, shape->size, is_device, shape->alignment));
}

}  // namespace mirror
