// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/listener.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace mirror::nbd {
namespace {

constexpr int socket_flags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

std::string text_of(const Endpoint& endpoint) {
    const bool is_v6 = endpoint.host.find(':') != std::string::npos;
    return fmt::format("{}{}{}:{}", is_v6 ? "[" : "", endpoint.host, is_v6 ? "]" : "",
                       endpoint.port);
}

const sockaddr* generic(const void* address) {
    return static_cast<const sockaddr*>(address);
}
sockaddr* generic(void* address) {
    return static_cast<sockaddr*>(address);
}

bool set_option(int socket, int level, int option, int value) noexcept {
    return ::setsockopt(socket, level, option, &value, sizeof value) == 0;
}

/// The text and port of an internet address; port 0 and an empty text for any other.
Endpoint endpoint_of(const sockaddr_storage& address, socklen_t length) {
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> service{};
    if (::getnameinfo(generic(&address), length, host.data(), host.size(), service.data(),
                      service.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return {};
    }
    return {host.data(), static_cast<std::uint16_t>(std::strtoul(service.data(), nullptr, 10))};
}

Result<Fd> bind_tcp(const addrinfo& address, const Endpoint& endpoint, Listener::Family family) {
    Fd fd(::socket(address.ai_family, socket_flags, address.ai_protocol));
    if (family == Listener::Family::own && address.ai_family == AF_INET6) {
        (void)set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
    }
    // A restart must not wait for connections in TIME_WAIT.
    if (!fd.is_open() || !set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1) ||
        ::bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0 ||
        ::listen(fd.get(), SOMAXCONN) != 0) {
        return fail_errno(errno, fmt::format("listen on {}", text_of(endpoint)));
    }
    return fd;
}

/// The supplementary groups of the client of a Unix socket. None if the kernel does not report
/// them, which never grants more.
std::vector<gid_t> groups_of(int socket) {
    std::vector<gid_t> groups(64);
    while (true) {
        auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
        const int failed = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
        const std::size_t count = size / sizeof(gid_t);
        if (failed == 0 || errno != ERANGE || count <= groups.size()) {
            groups.resize(failed == 0 ? count : 0);
            return groups;
        }
        groups.resize(count);  // it was told how many there are
    }
}

/// Makes way for a new socket file at `path`.
Result<void> remove_dead_socket(const std::string& path, const sockaddr_un& address) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        return errno == ENOENT ? Result<void>() : fail_errno(errno, path);
    }
    if (!S_ISSOCK(status.st_mode)) {
        return fail(ErrorKind::refused, "{} exists and is not a socket", path);
    }
    const Fd probe(::socket(AF_UNIX, socket_flags, 0));
    if (!probe.is_open()) {
        return fail_errno(errno, path);
    }
    // A full backlog (EAGAIN) is a live server, too.
    if (::connect(probe.get(), generic(&address), sizeof address) == 0 || errno != ECONNREFUSED) {
        return Failure(Error{ErrorKind::busy, fmt::format("{} is in use by a running server", path),
                             "stop that server first", errno});
    }
    return ::unlink(path.c_str()) == 0 ? Result<void>() : fail_errno(errno, path);
}

}  // namespace

Result<Listener> Listener::on_tcp(const Endpoint& endpoint, Family family) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(endpoint.host.c_str(),
                                        std::to_string(endpoint.port).c_str(), &hints, &found);
        error != 0) {
        return fail(ErrorKind::invalid, "listen on {}: {}", text_of(endpoint),
                    ::gai_strerror(error));
    }
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, ::freeaddrinfo);
    Result<Fd> fd = bind_tcp(*found, endpoint, family);
    if (!fd) {
        return Failure(fd.error());
    }
    Listener listener;
    sockaddr_storage bound{};
    socklen_t length = sizeof bound;
    if (::getsockname(fd->get(), generic(&bound), &length) != 0) {
        return fail_errno(errno, fmt::format("listen on {}", text_of(endpoint)));
    }
    listener.port_ = endpoint_of(bound, length).port;
    listener.fd_ = std::move(*fd);
    return listener;
}

Result<Listener> Listener::on_unix(const std::string& path, unsigned mode,
                                   std::optional<gid_t> group) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) {
        return fail(ErrorKind::invalid, "a socket's path has 1 to {} bytes, this has {}: '{}'",
                    sizeof address.sun_path - 1, path.size(), path);
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    if (Result<void> removed = remove_dead_socket(path, address); !removed) {
        return Failure(removed.error());
    }
    Listener listener;
    listener.fd_.reset(::socket(AF_UNIX, socket_flags, 0));
    if (!listener.fd_.is_open() || ::bind(listener.fd(), generic(&address), sizeof address) != 0) {
        return fail_errno(errno, path);
    }
    listener.path_ = path;
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        return fail_errno(errno, path);
    }
    listener.device_ = status.st_dev;
    listener.inode_ = status.st_ino;
    // Group and mode are set before anybody can connect. The group first, since a change of owner
    // may take bits away, and so that no other group has the mode for a moment.
    if (group && ::chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
        return fail_errno(errno, fmt::format("giving {} to the group {}", path, *group));
    }
    if (::chmod(path.c_str(), mode) != 0 || ::listen(listener.fd(), SOMAXCONN) != 0) {
        return fail_errno(errno, path);
    }
    return listener;
}

Listener::~Listener() {
    if (!path_.empty()) {
        retire();
    }
}

void Listener::retire() noexcept {
    if (path_.empty()) {
        ::shutdown(fd_.get(), SHUT_RDWR);
        return;
    }
    struct stat status {};
    if (fd_.is_open() && ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
        status.st_ino == inode_) {
        ::unlink(path_.c_str());
    }
    fd_.reset();
}

Client identify(int socket) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (::getpeername(socket, generic(&address), &length) != 0) {
        return {.address = "unknown"};
    }
    if (address.ss_family != AF_UNIX) {
        return {.address = text_of(endpoint_of(address, length))};
    }
    Client client{.address = "unix"};
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
        client.uid = credentials.uid;
        client.pid = credentials.pid;
        client.groups = groups_of(socket);
        client.groups.push_back(credentials.gid);
    }
    return client;
}

bool is_ours(const Client& client) noexcept {
    return client.uid && (*client.uid == 0 || *client.uid == ::geteuid());
}

}  // namespace mirror::nbd
