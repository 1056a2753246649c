// SPDX-License-Identifier: BSD-3-Clause
#include "core/store/blank.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "core/base/fd.hpp"

namespace mirror {
namespace {

constexpr off_t piece = 64 * 1024;
constexpr off_t begin_bytes = 4 << 20;
constexpr off_t end_bytes = 1 << 20;
constexpr int places = 256;

class Look {
  public:
    Look(int fd, const std::string& path, off_t size)
        : fd_(fd), path_(path), size_(size), buffer_(static_cast<std::size_t>(piece)) {}

    [[nodiscard]] Result<bool> is_blank() {
        return zero_between(0, begin_bytes)
            .and_then([&](bool blank) {
                return blank ? zero_between(size_ - end_bytes, size_) : Result<bool>(false);
            })
            .and_then([&](bool blank) { return blank ? zero_at_places() : Result<bool>(false); })
            .and_then([&](bool blank) { return blank ? zero_where_used() : Result<bool>(false); });
    }

  private:
    Result<bool> zero_between(off_t from, off_t to) {
        for (off_t at = std::max<off_t>(from, 0); at < std::min(to, size_); at += piece) {
            if (const auto zero = zero_at(at); !zero || !*zero) {
                return zero;
            }
        }
        return true;
    }

    Result<bool> zero_at_places() {
        for (int place = 1; place < places; ++place) {
            if (const auto zero = zero_at(size_ / places * place); !zero || !*zero) {
                return zero;
            }
        }
        return true;
    }

    /// Devices, and filesystems that can't tell, say that all is used: then one place more is
    /// looked at.
    Result<bool> zero_where_used() {
        off_t at = 0;
        for (int place = 0; place < places; ++place) {
            at = ::lseek(fd_, at, SEEK_DATA);
            if (at < 0) {
                return true;
            }
            if (const auto zero = zero_at(at); !zero || !*zero) {
                return zero;
            }
            at = ::lseek(fd_, at, SEEK_HOLE);
            if (at < 0 || at >= size_) {
                return true;
            }
        }
        return true;
    }

    Result<bool> zero_at(off_t at) {
        const ssize_t got = ::pread(fd_, buffer_.data(), buffer_.size(), at);
        if (got < 0) {
            return fail_errno(errno, path_);
        }
        return std::all_of(buffer_.begin(), buffer_.begin() + got,
                           [](std::byte value) { return value == std::byte{0}; });
    }

    int fd_;
    const std::string& path_;
    off_t size_;
    std::vector<std::byte> buffer_;
};

}  // namespace

Result<bool> looks_blank(const std::string& path) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.is_open()) {
        return errno == ENOENT ? Result<bool>(true) : fail_errno(errno, path);
    }
    const off_t size = ::lseek(fd.get(), 0, SEEK_END);
    if (size < 0) {
        return fail_errno(errno, path);
    }
    return Look(fd.get(), path, size).is_blank();
}

}  // namespace mirror
