// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/hang_up.hpp"

#include <charconv>
#include <cstddef>
#include <dirent.h>
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

/// Who connected and was not accepted yet would wait for ever: the socket stays open as long as the
/// process is held. A listener that was shut gives out what is in its queue, and blocks nobody.
void turn_away(int listener) noexcept {
    for (int fd = 0; (fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
        ::close(fd);
    }
}

void shut_all(const std::string& path) noexcept {
    DIR* directory = ::opendir("/proc/self/fd");
    if (directory == nullptr) {
        return;
    }
    while (const dirent* entry = ::readdir(directory)) {
        const std::string_view name(entry->d_name);
        int fd = -1;  // "." and ".." are no numbers
        std::from_chars(name.data(), name.data() + name.size(), fd);
        if (fd > 2 && is_bound_to(fd, path)) {
            const bool listens = is_listener(fd);
            (void)::shutdown(fd, SHUT_RDWR);
            if (listens) {
                turn_away(fd);
            }
        }
    }
    ::closedir(directory);
}

}  // namespace

void hang_up_clients(const std::string& path) noexcept {
    // The listener is among them. Once more for a client that was being accepted meanwhile.
    shut_all(path);
    shut_all(path);
}

}  // namespace mirror
