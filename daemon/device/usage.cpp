// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/device/usage.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace mirror::daemon {
namespace {

namespace fs = std::filesystem;

/// A list for people: what they must end first is among these.
constexpr std::size_t most_openers = 8;

std::string base_name(const std::string& device) {
    return fs::path(device).filename().string();
}

std::string first_line(const fs::path& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

/// The device and its partitions.
struct Family {
    std::set<std::string> paths;    ///< "/dev/nbd0p1"
    std::set<std::string> numbers;  ///< "43:1"
    std::vector<fs::path> folders;  ///< of /sys/block

    [[nodiscard]] bool has(dev_t number) const {
        return numbers.contains(
            fmt::format("{}:{}", ::gnu_dev_major(number), ::gnu_dev_minor(number)));
    }
};

Family family_of(const std::string& device) {
    Family family;
    const auto add = [&](const std::string& path, const fs::path& folder) {
        family.paths.insert(path);
        family.folders.push_back(folder);
        if (const std::string number = first_line(folder / "dev"); !number.empty()) {
            family.numbers.insert(number);
        }
    };
    const std::string name = base_name(device);
    const fs::path folder = fs::path("/sys/block") / name;
    add(device, folder);
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(folder, code)) {
        if (const std::string part = entry.path().filename().string();
            part.starts_with(name + "p")) {
            add(fs::path(device).parent_path() / part, entry.path());
        }
    }
    return family;
}

bool is_process(const std::string& name) {
    return name.find_first_not_of("0123456789") == std::string::npos;
}

void add_once(std::vector<std::string>& list, const std::string& word) {
    if (std::find(list.begin(), list.end(), word) == list.end()) {
        list.push_back(word);
    }
}

/// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw": a space is written as \040.
void add_mounts(const fs::path& mountinfo, const Family& family, std::vector<std::string>& mounts) {
    std::ifstream file(mountinfo);
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string id, parent, number, root, target, word, type, source;
        words >> id >> parent >> number >> root >> target;
        while (words >> word && word != "-") {
        }
        words >> type >> source;
        // Some filesystems have device numbers of their own; their source tells.
        if (family.numbers.contains(number) || family.paths.contains(source)) {
            add_once(mounts, target);
        }
    }
}

bool is_swap(const Family& family) {
    std::ifstream file("/proc/swaps");
    for (std::string line; std::getline(file, line);) {
        if (family.paths.contains(line.substr(0, line.find_first_of(" \t")))) {
            return true;
        }
    }
    return false;
}

std::vector<std::string> holders_of(const Family& family) {
    std::vector<std::string> holders;
    std::error_code code;
    for (const fs::path& folder : family.folders) {
        for (const auto& entry : fs::directory_iterator(folder / "holders", code)) {
            add_once(holders, entry.path().filename().string());
        }
    }
    // A loop device keeps its file open inside the kernel.
    for (const auto& entry : fs::directory_iterator("/sys/block", code)) {
        const std::string backing = first_line(entry.path() / "loop/backing_file");
        if (family.paths.contains(backing)) {
            add_once(holders, entry.path().filename().string());
        }
    }
    return holders;
}

/// Without asking the filesystem, which may be one that hangs.
bool is_open_in(const fs::path& process, const Family& family) {
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(process / "fd", code)) {
        struct statx found {};
        if (::statx(AT_FDCWD, entry.path().c_str(), AT_STATX_DONT_SYNC, STATX_TYPE, &found) == 0 &&
            S_ISBLK(found.stx_mode) &&
            family.has(::gnu_dev_makedev(found.stx_rdev_major, found.stx_rdev_minor))) {
            return true;
        }
    }
    return false;
}

void look_at_processes(const Family& family, DeviceUsage& usage) {
    std::error_code code;
    std::set<std::string> namespaces;
    for (const auto& entry : fs::directory_iterator("/proc", code)) {
        const std::string pid = entry.path().filename().string();
        if (!is_process(pid)) {
            continue;
        }
        const std::string space = fs::read_symlink(entry.path() / "ns/mnt", code).string();
        if (namespaces.insert(space).second) {
            add_mounts(entry.path() / "mountinfo", family, usage.mounts);
        }
        if (usage.openers.size() < most_openers && pid != std::to_string(::getpid()) &&
            is_open_in(entry.path(), family)) {
            usage.openers.push_back(
                fmt::format("{} (pid {})", first_line(entry.path() / "comm"), pid));
        }
    }
}

bool is_held(const std::string& device) {
    const Fd claim(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    return !claim.is_open() && errno == EBUSY;
}

Failure busy(std::string message, std::string remedy) {
    return Failure(Error{ErrorKind::busy, std::move(message), std::move(remedy)});
}

}  // namespace

Result<void> DeviceUsage::require_none(const std::string& device) const {
    if (!mounts.empty()) {
        return busy(fmt::format("{} is mounted on {}", device, fmt::join(mounts, ", ")),
                    fmt::format("umount {}", fmt::join(mounts, " ")));
    }
    if (is_swap) {
        return busy(fmt::format("{} is swap space", device), fmt::format("swapoff {}", device));
    }
    if (!holders.empty()) {
        return busy(fmt::format("{} is used by {}", device, fmt::join(holders, ", ")),
                    fmt::format("stop its use (lsblk {} shows what is on it)", device));
    }
    if (!openers.empty()) {
        return busy(fmt::format("{} is open in {}", device, fmt::join(openers, ", ")),
                    "stop the program that uses it");
    }
    if (is_held) {
        return busy(fmt::format("{} is in use by an unknown program", device),
                    fmt::format("lsblk {0}; fuser -vm {0}", device));
    }
    return {};
}

DeviceUsage usage_of(const std::string& device) {
    DeviceUsage usage;
    usage.is_held = is_held(device);
    const Family family = family_of(device);
    usage.is_swap = is_swap(family);
    usage.holders = holders_of(family);
    look_at_processes(family, usage);
    return usage;
}

Result<Fd> claim_device(const std::string& device) {
    // For reading: closing a writer would make udev look at the device once more.
    Fd claim(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    const int error = errno;
    if (!claim.is_open() && error != EBUSY) {
        return fail_errno(error, fmt::format("opening {}", device));
    }
    DeviceUsage usage = usage_of(device);
    usage.is_held = !claim.is_open();  // by others
    if (auto unused = usage.require_none(device); !unused) {
        return Failure(unused.error());
    }
    return claim;
}

}  // namespace mirror::daemon
