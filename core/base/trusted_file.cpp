// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/trusted_file.hpp"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace mirror {
namespace {

constexpr int never_lead_astray = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
constexpr mode_t writable_by_others = S_IWGRP | S_IWOTH;
constexpr mode_t usable_by_others = S_IRWXG | S_IRWXO;

bool is_trusted_owner(uid_t owner) {
    return owner == 0 || owner == ::geteuid();
}

std::string chown_words(const std::string& path) {
    return ::geteuid() == 0 ? fmt::format("run: chown root {}", path)
                            : fmt::format("run as root: chown {} {}", ::geteuid(), path);
}

/// Begins with what was asked for, where the fault is with a folder above it.
std::string about(const std::string& path, const std::string& part) {
    return path == part ? part : fmt::format("{}: {}", path, part);
}

Failure foreign(const std::string& path, const std::string& part, uid_t owner) {
    return Failure(
        Error{ErrorKind::refused,
              fmt::format("{} belongs to user {}, who could change it", about(path, part), owner),
              chown_words(part)});
}

Failure open_to_others(const std::string& path, const std::string& part, mode_t mode) {
    return Failure(
        Error{ErrorKind::refused,
              fmt::format("{} can be written by users other than its owner (mode {:04o})",
                          about(path, part), mode & 07777),
              fmt::format("run: chmod go-w {}", part)});
}

/// One look at a path, from / down. What a trusted folder has in it stays as it was seen, since
/// nobody else can change it: so the order of the looks matters.
class Walk {
  public:
    /// `judges_last`: else the caller does it, when what the path names is open.
    Walk(const std::string& path, LastLink last, bool judges_last)
        : path_(path), last_(last), judges_last_(judges_last) {
        follow(path);
    }

    [[nodiscard]] Result<std::string> run() {
        if (auto fine = look_at_folder(left_.empty()); !fine) {
            return Failure(fine.error());
        }
        while (!left_.empty()) {
            const std::string part = std::move(left_.front());
            left_.pop_front();
            if (part == "..") {
                reached_ = reached_.parent_path();
            } else if (auto done = step(part); !done) {
                return Failure(done.error());
            }
        }
        return reached_.string();
    }

  private:
    void follow(const std::filesystem::path& way) {
        if (way.is_absolute()) {
            reached_ = "/";
        }
        auto at = left_.begin();
        for (const auto& part : way.relative_path()) {
            if (!part.empty() && part != ".") {
                at = left_.insert(at, part.string()) + 1;
            }
        }
    }

    [[nodiscard]] Result<void> look_at_folder(bool is_last) const {
        struct stat found {};
        if (::lstat(reached_.c_str(), &found) != 0) {
            return fail_errno(errno, path_);
        }
        return judge(reached_.string(), found, is_last);
    }

    [[nodiscard]] Result<void> judge(const std::string& part, const struct stat& found,
                                     bool is_last) const {
        if (!is_trusted_owner(found.st_uid)) {
            return foreign(path_, part, found.st_uid);
        }
        const bool each_keeps_his_own =
            !is_last && S_ISDIR(found.st_mode) && (found.st_mode & S_ISVTX) != 0;
        if (!S_ISLNK(found.st_mode) && (found.st_mode & writable_by_others) != 0 &&
            !each_keeps_his_own) {
            return open_to_others(path_, part, found.st_mode);
        }
        return {};
    }

    [[nodiscard]] Result<void> step(const std::string& part) {
        const std::string next = (reached_ / part).string();
        struct stat found {};
        if (::lstat(next.c_str(), &found) != 0) {
            return fail_errno(errno, about(path_, next));
        }
        if (!left_.empty() || judges_last_ || S_ISLNK(found.st_mode)) {
            if (auto fine = judge(next, found, left_.empty()); !fine) {
                return fine;
            }
        }
        if (!S_ISLNK(found.st_mode)) {
            reached_ = next;
            return {};
        }
        if (left_.empty() && last_ == LastLink::refused) {
            return Failure(Error{ErrorKind::refused,
                                 fmt::format("{} is a symbolic link", about(path_, next)),
                                 "replace it with the file that it points to"});
        }
        constexpr int most_links = 40;  // the kernel's own limit
        std::error_code code;
        const auto target = std::filesystem::read_symlink(next, code);
        if (code || ++links_ > most_links) {
            return fail_errno(code ? code.value() : ELOOP, about(path_, next));
        }
        follow(target);
        return {};
    }

    const std::string& path_;
    const LastLink last_;
    const bool judges_last_;
    std::filesystem::path reached_ = "/";
    std::deque<std::string> left_;
    int links_ = 0;
};

Result<struct stat> look_at(int fd, const std::string& path) {
    struct stat found {};
    if (::fstat(fd, &found) != 0) {
        return fail_errno(errno, path);
    }
    if (!S_ISREG(found.st_mode)) {
        return fail(ErrorKind::refused, "{} is not a regular file", path);
    }
    return found;
}

/// The file itself, as it is open: its path was looked at before.
Result<void> require_trusted_content(const struct stat& found, const std::string& path,
                                     Secrecy secrecy) {
    if (!is_trusted_owner(found.st_uid)) {
        return foreign(path, path, found.st_uid);
    }
    if (secrecy == Secrecy::secret && (found.st_mode & usable_by_others) != 0) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} can be read or written by others (mode {:04o})", path,
                                         found.st_mode & 07777),
                             fmt::format("run: chmod 600 {}", path)});
    }
    if ((found.st_mode & writable_by_others) != 0) {
        return open_to_others(path, path, found.st_mode);
    }
    if (found.st_uid == ::geteuid() && (found.st_mode & S_IRUSR) == 0) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} can't be read by its owner (mode {:04o}), nor by an "
                                         "engine",
                                         path, found.st_mode & 07777),
                             fmt::format("run: chmod u+r {}", path)});
    }
    return {};
}

Result<std::string> read_all(int fd, const std::string& path, std::size_t limit) {
    std::string text;
    while (text.size() <= limit) {
        constexpr std::size_t piece = 16384;
        const std::size_t have = text.size();
        text.resize(have + std::min(piece, limit + 1 - have));
        const ssize_t got = ::read(fd, text.data() + have, text.size() - have);
        if (got < 0 && errno != EINTR) {
            return fail_errno(errno, path);
        }
        text.resize(have + (got > 0 ? static_cast<std::size_t>(got) : 0));
        if (got == 0) {
            return text;
        }
    }
    return fail(ErrorKind::invalid,
                "{} has more than {} bytes: it is not the expected kind of file", path, limit);
}

Failure not_opened(int os_error, const std::string& path) {
    if (os_error == ELOOP) {
        return Failure(Error{ErrorKind::refused, fmt::format("{} is a symbolic link", path),
                             "replace it with the file that it points to, or remove it", os_error});
    }
    return fail_errno(os_error, path);
}

Result<std::string> absolute(const std::string& path) {
    std::error_code code;
    std::string whole = std::filesystem::absolute(path, code).string();
    return code || path.empty() ? fail_errno(code ? code.value() : ENOENT, path)
                                : Result<std::string>(std::move(whole));
}

}  // namespace

Result<std::string> require_trusted_path(const std::string& path, LastLink last) {
    return absolute(path).and_then(
        [&](const std::string& whole) { return Walk(whole, last, true).run(); });
}

Result<Fd> open_trusted_file(const std::string& path, Secrecy secrecy) {
    const auto resolved = absolute(path).and_then(
        [](const std::string& whole) { return Walk(whole, LastLink::followed, false).run(); });
    if (!resolved) {
        return Failure(resolved.error());
    }
    Fd file(::open(resolved->c_str(), O_RDONLY | never_lead_astray));
    if (!file.is_open()) {
        return not_opened(errno, path);
    }
    const auto trusted = look_at(file.get(), path).and_then([&](const struct stat& found) {
        return require_trusted_content(found, path, secrecy);
    });
    return trusted ? Result<Fd>(std::move(file)) : Failure(trusted.error());
}

Result<std::string> read_trusted_file(const std::string& path, std::size_t limit, Secrecy secrecy) {
    const auto file = open_trusted_file(path, secrecy);
    return file ? read_all(file->get(), path, limit) : Failure(file.error());
}

Result<Fd> open_own_file(const std::string& path, int flags, mode_t mode) {
    Fd file(::open(path.c_str(), flags | never_lead_astray, mode));
    if (!file.is_open()) {
        return not_opened(errno, path);
    }
    const auto found = look_at(file.get(), path);
    if (!found) {
        return Failure(found.error());
    }
    if (!is_trusted_owner(found->st_uid)) {
        return foreign(path, path, found->st_uid);
    }
    const bool makes = (flags & O_CREAT) != 0;
    const mode_t given = found->st_mode & 07777;
    if (makes && found->st_uid == ::geteuid() && given != mode) {
        return ::fchmod(file.get(), mode) == 0 ? Result<Fd>(std::move(file))
                                               : fail_errno(errno, path);
    }
    if ((given & writable_by_others & ~mode) != 0) {
        return open_to_others(path, path, given);
    }
    return file;
}

Result<Fd> make_own_file(const std::string& path, mode_t mode) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        return fail_errno(errno, path);
    }
    return open_own_file(path, O_RDWR | O_CREAT | O_EXCL, mode);
}

Result<std::string> read_own_file(const std::string& path, std::size_t limit) {
    return open_own_file(path, O_RDONLY).and_then([&](const Fd& file) {
        return read_all(file.get(), path, limit);
    });
}

Result<Fd> open_to_show(const std::string& path) {
    Fd file(::open(path.c_str(), O_RDONLY | never_lead_astray));
    if (!file.is_open()) {
        return not_opened(errno, path);
    }
    const auto found = look_at(file.get(), path);
    return found ? Result<Fd>(std::move(file)) : Failure(found.error());
}

Result<void> sync_folder(const std::string& path, const std::function<int(int)>& sync) {
    const std::string name = path.empty() ? "." : path;
    const Fd folder(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder.is_open() || sync(folder.get()) != 0) {
        return fail_errno(errno, name);
    }
    return {};
}

Result<void> write_all_to(int fd, std::string_view content, const std::string& path) {
    while (!content.empty()) {
        const ssize_t written = ::write(fd, content.data(), content.size());
        if (written < 0 && errno != EINTR) {
            return fail_errno(errno, path);
        }
        content.remove_prefix(written > 0 ? static_cast<std::size_t>(written) : 0);
    }
    return {};
}

}  // namespace mirror
