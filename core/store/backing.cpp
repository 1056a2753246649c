// SPDX-License-Identifier: BSD-3-Clause
// Looking at a backing file or device without owning it, and making a file.
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/store/file_store.hpp"
#include "core/store/sector.hpp"

namespace mirror {
namespace {

/// Whether any byte of the file takes space. Where the filesystem can't tell, its blocks do.
bool file_has_data(int fd, const struct stat& status) {
    if (::lseek(fd, 0, SEEK_DATA) >= 0) {
        return true;
    }
    return errno != ENXIO && status.st_blocks > 0;
}

Result<void> sync_directory_of(const std::string& path) {
    const std::filesystem::path parent = std::filesystem::path(path).parent_path();
    const std::string name = parent.empty() ? "." : parent.string();
    const Fd directory(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.is_open() || ::fsync(directory.get()) != 0) {
        return fail_errno(errno, name);
    }
    return {};
}

}  // namespace

Result<BackingInfo> inspect_backing(const std::string& path) {
    // A pipe or a tape would block or move when opened: look first.
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) {
            return BackingInfo{};
        }
        return fail_errno(errno, path);
    }
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        return fail(ErrorKind::invalid, "{}: is neither a file nor a block device", path);
    }
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.is_open()) {
        return fail_errno(errno, path);
    }
    if (S_ISREG(status.st_mode)) {
        return BackingInfo{.exists = true,
                           .size = static_cast<std::uint64_t>(status.st_size),
                           .has_data = file_has_data(fd.get(), status)};
    }
    BackingInfo info{.exists = true, .is_block_device = true, .has_data = true};
    if (::ioctl(fd.get(), BLKGETSIZE64, &info.size) != 0) {
        return fail_errno(errno, path);
    }
    return info;
}

Result<void> create_backing_file(const std::string& path, std::uint64_t size) {
    if (!is_sector_multiple(size)) {
        return fail(ErrorKind::invalid, "{}: {} bytes is not a multiple of {}", path, size,
                    sector_size);
    }
    const Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd.is_open()) {
        if (errno == EEXIST) {
            return fail(ErrorKind::refused, "{}: exists already, and is left as it is", path);
        }
        return fail_errno(errno, path);
    }
    Result<void> made;
    if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0 || ::fsync(fd.get()) != 0) {
        made = fail_errno(errno, fmt::format("{}: cannot be made {} bytes long", path, size));
    } else {
        made = sync_directory_of(path);
    }
    if (!made) {
        ::unlink(path.c_str());
    }
    return made;
}

}  // namespace mirror
