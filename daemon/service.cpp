// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/service.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/base/log.hpp"

namespace mirror::daemon {
namespace {

Result<void> make_directory(const std::string& path, mode_t mode) {
    std::error_code code;
    const std::filesystem::path parent = std::filesystem::path(path).parent_path();
    if (!parent.empty()) {
        std::filesystem::create_directories(parent, code);
        if (code) {
            return fail_errno(code.value(),
                              fmt::format("making the directory {}", parent.string()));
        }
    }
    if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
        return fail_errno(errno, fmt::format("making the directory {}", path));
    }
    return {};
}

}  // namespace

Result<void> make_directories(const NodeConfig& node) {
    if (auto made = make_directory(node.run_dir, 0755); !made) {
        return made;
    }
    return make_directory(node.state_dir, 0700);
}

Result<Instance> Instance::claim(const std::string& run_dir) {
    const std::string path = run_dir + "/mirrord.lock";
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
    return Instance(std::move(lock));
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
