// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/service.hpp"

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/base/lock_holder.hpp"
#include "core/base/log.hpp"
#include "core/base/put_file.hpp"
#include "core/base/sticky_folder.hpp"
#include "core/base/trusted_file.hpp"
#include "core/config/own_names.hpp"

namespace mirror::daemon {
namespace {

std::string lock_path(const std::string& run_dir) {
    return fmt::format("{}/{}", run_dir, own_names::daemon_lock);
}

Result<void> make_own_folder(std::string_view key, const std::string& path, mode_t mode) {
    const auto fine =
        make_folder(path, mode).and_then([&] { return close_sticky_folder(path); }).and_then([&] {
            return require_trusted_path(path);
        });
    if (!fine) {
        Error error = fine.error().within(key);
        error.remedy += error.remedy.empty() ? "" : fmt::format(", or choose another {}", key);
        return Failure(std::move(error));
    }
    return {};
}

Failure held_by_another(int lock, const std::string& run_dir) {
    struct stat file {};
    const LockHolder holder = ::fstat(lock, &file) == 0 ? lock_holder(file) : LockHolder{};
    if (holder.pid == 0) {
        return fail(ErrorKind::busy, "mirrord is already running in {}", run_dir);
    }
    if (holder.program.starts_with("mirrord")) {
        return fail(ErrorKind::busy, "mirrord is already running in {} (pid {})", run_dir,
                    holder.pid);
    }
    // From a time when others could open the file.
    return Failure(Error{ErrorKind::busy,
                         fmt::format("{} is locked by process {} ({}, user {}), which is not "
                                     "mirrord",
                                     lock_path(run_dir), holder.pid, holder.program, holder.user),
                         fmt::format("end that process: kill {}", holder.pid)});
}

}  // namespace

Result<void> make_run_dir(const NodeConfig& node) {
    return make_own_folder("run_dir", node.run_dir, 0755);
}

Result<void> make_directories(const NodeConfig& node) {
    return make_run_dir(node).and_then(
        [&] { return make_own_folder("state_dir", node.state_dir, 0700); });
}

Result<Instance> Instance::claim(const std::string& run_dir) {
    const std::string path = lock_path(run_dir);
    // Whoever could read it could lock it.
    auto lock = open_own_file(path, O_RDWR | O_CREAT, 0600);
    if (!lock) {
        return Failure(lock.error());
    }
    if (::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? held_by_another(lock->get(), run_dir)
                                    : fail_errno(errno, fmt::format("locking {}", path));
    }
    const std::string pid = fmt::format("{}\n", ::getpid());
    if (::ftruncate(lock->get(), 0) != 0 ||
        ::pwrite(lock->get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
        return fail_errno(errno, fmt::format("writing {}", path));
    }
    return Instance(std::move(*lock), run_dir);
}

bool Instance::is_named() const {
    struct stat held {};
    struct stat named {};
    return ::fstat(lock_.get(), &held) == 0 && ::stat(lock_path(run_dir_).c_str(), &named) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

Result<void> Instance::name_again() {
    if (is_named()) {
        return {};
    }
    return claim(run_dir_).map([this](Instance fresh) { lock_ = std::move(fresh.lock_); });
}

void notify_service_manager(const std::string& state) noexcept {
    const char* path = std::getenv("NOTIFY_SOCKET");
    sockaddr_un address{};
    if (path == nullptr || (path[0] != '/' && path[0] != '@') ||
        std::strlen(path) >= sizeof address.sun_path) {
        return;
    }
    address.sun_family = AF_UNIX;
    const std::size_t length = std::strlen(path);
    std::memcpy(address.sun_path, path, length);
    if (address.sun_path[0] == '@') {
        address.sun_path[0] = '\0';  // the abstract namespace
    }
    const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
    if (!socket.is_open() || ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL,
                                      reinterpret_cast<const sockaddr*>(&address), size) < 0) {
        log(LogLevel::warning, "the service manager at {} could not be told '{}'", path, state);
    }
}

}  // namespace mirror::daemon
