// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/service.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/base/log.hpp"
#include "core/base/put_file.hpp"
#include "core/config/own_names.hpp"

namespace mirror::daemon {
namespace {

std::string lock_path(const std::string& run_dir) {
    return fmt::format("{}/{}", run_dir, own_names::daemon_lock);
}

}  // namespace

Result<void> make_directories(const NodeConfig& node) {
    if (auto made = make_folder(node.run_dir, 0755); !made) {
        return made;
    }
    return make_folder(node.state_dir, 0700);
}

Result<Instance> Instance::claim(const std::string& run_dir) {
    const std::string path = lock_path(run_dir);
    Fd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!lock.is_open()) {
        return fail_errno(errno, fmt::format("opening {}", path));
    }
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            return fail_errno(errno, fmt::format("locking {}", path));
        }
        std::array<char, 32> pid{};
        const ssize_t got = ::pread(lock.get(), pid.data(), pid.size() - 1, 0);
        return fail(ErrorKind::busy, "mirrord runs already in {} (pid {})", run_dir,
                    got > 0 ? std::string(pid.data(), std::strcspn(pid.data(), "\n")) : "unknown");
    }
    const std::string pid = fmt::format("{}\n", ::getpid());
    if (::ftruncate(lock.get(), 0) != 0 ||
        ::pwrite(lock.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
        return fail_errno(errno, fmt::format("writing {}", path));
    }
    return Instance(std::move(lock), run_dir);
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
