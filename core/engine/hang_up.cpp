// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/hang_up.hpp"

#include <charconv>
#include <cstddef>
#include <dirent.h>
#include <fcntl.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace mirror {
namespace {

bool is_bound_to(int fd, std::string_view path) noexcept {
    sockaddr_un address{};
    socklen_t length = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
        address.sun_family != AF_UNIX || length <= offsetof(sockaddr_un, sun_path)) {
        return false;
    }
    const std::string_view name(address.sun_path, length - offsetof(sockaddr_un, sun_path));
    return name.substr(0, name.find('\0')) == path;
}

bool is_listener(int fd) noexcept {
    int listens = 0;
    socklen_t length = sizeof listens;
    return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens != 0;
}

bool is_from(int fd, pid_t process) noexcept {
    ucred peer{};
    socklen_t length = sizeof peer;
    return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == process;
}

/// Who connected and was not accepted yet would wait for ever: the socket stays open as long as the
/// process is held. It is not shut down, since nbdkit then tries to accept again without pause.
void turn_away(int listener) noexcept {
    const int flags = ::fcntl(listener, F_GETFL);
    if (flags < 0 || ::fcntl(listener, F_SETFL, flags | O_NONBLOCK) != 0) {
        return;
    }
    for (int fd = 0; (fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
        ::close(fd);
    }
}

void end_all(const std::string& path, pid_t asker) noexcept {
    DIR* directory = ::opendir("/proc/self/fd");
    if (directory == nullptr) {
        return;
    }
    while (const dirent* entry = ::readdir(directory)) {
        const std::string_view name(entry->d_name);
        int fd = -1;  // "." and ".." are no numbers
        std::from_chars(name.data(), name.data() + name.size(), fd);
        if (fd <= 2 || !is_bound_to(fd, path)) {
            continue;
        }
        if (is_listener(fd)) {
            turn_away(fd);
        } else if (!is_from(fd, asker)) {
            (void)::shutdown(fd, SHUT_RDWR);
        }
    }
    ::closedir(directory);
}

}  // namespace

void hang_up_clients(const std::string& path, pid_t asker) noexcept {
    (void)::unlink(path.c_str());  // nobody comes after this
    // Once more for a client that was being accepted meanwhile.
    end_all(path, asker);
    end_all(path, asker);
}

}  // namespace mirror
