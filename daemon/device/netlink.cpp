// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/device/netlink.hpp"

#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <sys/stat.h>

#include "daemon/device/nl_socket.hpp"
#include "daemon/device/usage.hpp"

namespace mirror::daemon {
namespace {

namespace fs = std::filesystem;

/// How long requests wait for a server before they fail. A filesystem that gets one error turns
/// read-only, so this is for the day when nobody will come back: long enough for a node that boots
/// (its peer is asked before an engine starts again) and for a person who looks at it.
constexpr std::chrono::seconds dead_connection_timeout{600};

/// What disks have had for ever. Filesystems choose larger blocks by themselves; a volume that
/// began with this size must keep it.
constexpr std::uint64_t block_size = 512;

fs::path sysfs_of(DeviceIndex index) {
    return fmt::format("/sys/block/nbd{}", index);
}

bool path_exists(const fs::path& path) {
    std::error_code code;
    return fs::exists(path, code);
}

std::string first_line(const fs::path& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

Failure refused_by_kernel(DeviceIndex index, const char* what, int error) {
    const std::string device = device_of_index(index);
    if (error == EPERM || error == EACCES) {
        return Failure(Error{
            .kind = ErrorKind::refused,
            .message = fmt::format("{} {}: the kernel requires CAP_SYS_ADMIN for it", what, device),
            .remedy = "run mirrord as root",
            .os_error = error});
    }
    return fail_errno(error, fmt::format("{} {}", what, device));
}

bool put_setup(nl_msg* message, DeviceIndex index, const NbdDriver::Setup& setup) {
    return ::nla_put_u32(message, NBD_ATTR_INDEX, index) == 0 &&
           ::nla_put_u64(message, NBD_ATTR_SIZE_BYTES, setup.size) == 0 &&
           ::nla_put_u64(message, NBD_ATTR_BLOCK_SIZE_BYTES, block_size) == 0 &&
           ::nla_put_u64(message, NBD_ATTR_SERVER_FLAGS, setup.flags) == 0 &&
           ::nla_put_u64(message, NBD_ATTR_DEAD_CONN_TIMEOUT,
                         static_cast<std::uint64_t>(dead_connection_timeout.count())) == 0 &&
           ::nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, setup.backend.c_str()) == 0;
}

bool put_sockets(nl_msg* message, const std::vector<Fd>& sockets) {
    nlattr* list = ::nla_nest_start(message, NBD_ATTR_SOCKETS);
    bool done = list != nullptr;
    for (const Fd& socket : sockets) {
        nlattr* item = done ? ::nla_nest_start(message, NBD_SOCK_ITEM) : nullptr;
        done = item != nullptr &&
               ::nla_put_u32(message, NBD_SOCK_FD, static_cast<std::uint32_t>(socket.get())) == 0;
        if (done) {
            ::nla_nest_end(message, item);
        }
    }
    if (done) {
        ::nla_nest_end(message, list);
    }
    return done;
}

/// No timeout: a slow server is not a dead one. Given again it would undo set_replay_after().
bool put_patience(nl_msg* message, int command) {
    return command != NBD_CMD_CONNECT || ::nla_put_u64(message, NBD_ATTR_TIMEOUT, 0) == 0;
}

Result<void> send_setup(int command, const char* what, DeviceIndex index,
                        const NbdDriver::Setup& setup, const std::vector<Fd>& sockets) {
    const auto netlink = NlSocket::open();
    if (!netlink) {
        return Failure(netlink.error());
    }
    NlMessage message = netlink->request(command);
    if (!message || !put_setup(message.get(), index, setup) ||
        !put_patience(message.get(), command) || !put_sockets(message.get(), sockets)) {
        return fail(ErrorKind::internal, "{} {}: the netlink message got too long", what,
                    device_of_index(index));
    }
    if (const int error = netlink->run(std::move(message)); error != 0) {
        return refused_by_kernel(index, what, error);
    }
    return {};
}

std::set<ino_t> inodes_of(const std::vector<Fd>& sockets) {
    std::set<ino_t> inodes;
    for (const Fd& socket : sockets) {
        struct stat found {};
        if (::fstat(socket.get(), &found) == 0) {
            inodes.insert(found.st_ino);
        }
    }
    return inodes;
}

/// How many of these Unix sockets exist though this process has closed them: the kernel's own list
/// is the only place that tells whether it kept one.
std::size_t count_kept(const std::set<ino_t>& inodes) {
    std::ifstream list("/proc/self/net/unix");
    std::string line;
    std::size_t kept = 0;
    while (std::getline(list, line)) {
        std::istringstream words(line);
        std::string word;
        for (int column = 0; column < 7 && words >> word; ++column) {
        }
        ino_t inode = 0;
        std::from_chars(word.data(), word.data() + word.size(), inode);
        kept += inodes.contains(inode) ? 1U : 0U;
    }
    return kept;
}

}  // namespace

Result<DeviceIndex> index_of_device(const std::string& device) {
    constexpr std::string_view stem = "/dev/nbd";
    DeviceIndex index = 0;
    const char* const end = device.data() + device.size();
    if (device.starts_with(stem)) {
        const auto [rest, code] = std::from_chars(device.data() + stem.size(), end, index);
        if (code == std::errc{} && rest == end) {
            return index;
        }
    }
    return Failure(Error{ErrorKind::invalid,
                         fmt::format("{} is not a device of the kernel's nbd driver", device),
                         "set device to /dev/nbd0, /dev/nbd1, …"});
}

std::string device_of_index(DeviceIndex index) {
    return fmt::format("/dev/nbd{}", index);
}

std::optional<NbdDriver::Attachment> NetlinkDriver::attachment(DeviceIndex index) const {
    const fs::path folder = sysfs_of(index);
    if (!path_exists(folder / "pid")) {
        return std::nullopt;
    }
    Attachment found{first_line(folder / "backend"), 0};
    std::error_code code;
    // The driver has one hardware queue a connection.
    for (const auto& entry : fs::directory_iterator(folder / "mq", code)) {
        found.connections += entry.is_directory(code) ? 1U : 0U;
    }
    found.connections = std::max(found.connections, 1U);
    return found;
}

Result<void> NetlinkDriver::require_present(DeviceIndex index) const {
    const std::string device = device_of_index(index);
    if (!path_exists("/sys/module/nbd")) {
        return Failure(
            Error{ErrorKind::not_found,
                  fmt::format("the kernel's nbd driver is not loaded, so there is no {}", device),
                  "modprobe nbd"});
    }
    if (!path_exists(device)) {
        return Failure(Error{ErrorKind::not_found, fmt::format("there is no device {}", device),
                             "load the driver with more devices: modprobe nbd nbds_max=64"});
    }
    return {};
}

Result<void> NetlinkDriver::connect(DeviceIndex index, const Setup& setup,
                                    std::vector<Fd> sockets) {
    return send_setup(NBD_CMD_CONNECT, "attaching", index, setup, sockets);
}

Result<std::size_t> NetlinkDriver::reconfigure(DeviceIndex index, const Setup& setup,
                                               std::vector<Fd> sockets) {
    const std::set<ino_t> inodes = inodes_of(sockets);
    if (auto done = send_setup(NBD_CMD_RECONFIGURE, "reconnecting", index, setup, sockets); !done) {
        return Failure(done.error());
    }
    sockets.clear();
    return count_kept(inodes);
}

Result<void> NetlinkDriver::set_replay_after(DeviceIndex index, std::chrono::milliseconds time) {
    const std::string path = (sysfs_of(index) / "queue/io_timeout").string();
    const std::string value = std::to_string(time.count());
    const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file.is_open() || ::write(file.get(), value.data(), value.size()) < 0) {
        return fail_errno(errno, fmt::format("writing {}", path));
    }
    return {};
}

Result<Fd> NetlinkDriver::claim(DeviceIndex index) const {
    return claim_device(device_of_index(index));
}

Result<void> NetlinkDriver::disconnect(DeviceIndex index) {
    const auto netlink = NlSocket::open();
    if (!netlink) {
        return Failure(netlink.error());
    }
    NlMessage message = netlink->request(NBD_CMD_DISCONNECT);
    if (!message || ::nla_put_u32(message.get(), NBD_ATTR_INDEX, index) != 0) {
        return fail(ErrorKind::internal, "no memory for a netlink message");
    }
    if (const int error = netlink->run(std::move(message)); error != 0) {
        return refused_by_kernel(index, "detaching", error);
    }
    return {};
}

}  // namespace mirror::daemon
