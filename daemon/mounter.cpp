// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/mounter.hpp"

#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <linux/fs.h>
#include <sstream>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/base/fd.hpp"
#include "core/base/put_file.hpp"
#include "daemon/child.hpp"
#include "daemon/mount_users.hpp"

namespace mirror::daemon {
namespace {

namespace fs = std::filesystem;

/// Unmounting writes what the page cache has.
constexpr std::chrono::minutes tool_limit{5};
constexpr std::chrono::seconds probe_limit{30};
/// systemd then orders the mount like one of the network, so that it is unmounted at shutdown
/// while mirrord still serves it.
constexpr const char* network_option = "_netdev";

/// "\040" and the like, by which the kernel writes blanks.
std::string unescape(const std::string& text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned code = 0;
        const char* begin = text.data() + i + 1;
        if (text[i] == '\\' && i + 3 < text.size() &&
            std::from_chars(begin, begin + 3, code, 8).ptr == begin + 3) {
            result += static_cast<char>(code);
            i += 3;
        } else {
            result += text[i];
        }
    }
    return result;
}

std::vector<MountEntry> mounts_now() {
    std::ifstream file("/proc/self/mountinfo", std::ios::binary);
    return parse_mounts(std::string(std::istreambuf_iterator<char>(file), {}));
}

bool is_of_device(const MountEntry& entry, const std::string& device, const struct stat* found) {
    return (found != nullptr && entry.major == major(found->st_rdev) &&
            entry.minor == minor(found->st_rdev)) ||
           entry.source == device || entry.source.starts_with(device + "p");
}

/// 0 where it can't be told.
std::uint64_t size_of(const std::string& device) {
    const Fd file(::open(device.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    std::uint64_t size = 0;
    return file.is_open() && ::ioctl(file.get(), BLKGETSIZE64, &size) == 0 ? size : 0;
}

class SystemMounter final : public Mounter {
  public:
    std::vector<std::string> mount_points(const std::string& device) override {
        struct stat found {};
        const bool exists = ::stat(device.c_str(), &found) == 0 && S_ISBLK(found.st_mode);
        std::vector<std::string> result;
        for (MountEntry& entry : mounts_now()) {
            if (is_of_device(entry, device, exists ? &found : nullptr)) {
                result.push_back(std::move(entry.directory));
            }
        }
        return result;
    }

    /// Its parent is looked at only: the directory itself may be on a disk that hangs.
    std::string resolved(const std::string& directory) override {
        std::error_code code;
        const fs::path path(directory);
        const fs::path parent = fs::weakly_canonical(path.parent_path(), code);
        return code ? directory : (parent / path.filename()).string();
    }

    std::string mounted_within(const std::string& directory, const std::string& device) override {
        const std::string wanted = resolved(directory);
        for (const MountEntry& entry : mounts_now()) {
            const bool same = entry.directory == wanted && !is_of_device(entry, device, nullptr);
            if (same || entry.directory.starts_with(wanted + "/")) {
                return entry.directory;
            }
        }
        return {};
    }

    Content content(const std::string& device) override {
        if (size_of(device) == 0) {
            return Content::unknown;  // it is not attached: not what an empty disk looks like
        }
        const auto probed = run_child({"blkid", "-p", "-o", "value", "-s", "TYPE", device},
                                      clean_environment(), probe_limit);
        constexpr int nothing_found = 2;
        if (!probed || !probed->in_time || probed->exit_code > nothing_found) {
            return Content::unknown;
        }
        return probed->exit_code == nothing_found ? Content::empty : Content::filesystem;
    }

    Result<void> mount(const std::string& device, const std::string& directory,
                       const std::string& options) override {
        if (auto made = make_folder(directory, 0755); !made) {
            return made;
        }
        return run({"mount", "-o", mount_argument(options), device, directory});
    }

    Result<void> unmount(const std::string& directory) override {
        return run({"umount", directory});
    }

    std::string users(const std::string& directory) override {
        return words(find_mount_users(resolved(directory)));
    }

  private:
    static Result<void> run(const std::vector<std::string>& arguments) {
        const auto end = run_child(arguments, clean_environment(), tool_limit);
        if (!end) {
            Error error = end.error();
            error.remedy = "install the package mount (Debian) or util-linux";
            return Failure(error);
        }
        if (!end->succeeded()) {
            const std::string reason = end->last_words();
            return fail(ErrorKind::io, "{}",
                        reason.empty() ? fmt::format("{}: {}", arguments[0], end->words(tool_limit))
                                       : reason);
        }
        return {};
    }
};

}  // namespace

std::string mount_argument(const std::string& options) {
    std::string all = network_option;
    bool has_suid = false;
    bool has_dev = false;
    std::istringstream words(options);
    for (std::string word; std::getline(words, word, ',');) {
        has_suid = has_suid || word == "suid";
        has_dev = has_dev || word == "dev";
        all += ',' + word;
    }
    // At the end, where they count against "user" and the like as well.
    return all + (has_suid ? "" : ",nosuid") + (has_dev ? "" : ",nodev");
}

std::vector<MountEntry> parse_mounts(const std::string& mountinfo) {
    std::vector<MountEntry> result;
    std::istringstream lines(mountinfo);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string skipped;
        std::string directory;
        std::string source;
        char colon = 0;
        MountEntry entry;
        words >> skipped >> skipped >> entry.major >> colon >> entry.minor >> skipped >> directory;
        for (std::string word; words >> word && word != "-";) {
        }
        words >> entry.type >> source >> entry.options;
        if (words && colon == ':') {
            entry.directory = unescape(directory);
            entry.source = unescape(source);
            result.push_back(std::move(entry));
        }
    }
    return result;
}

Mounter& system_mounter() {
    static SystemMounter mounter;
    return mounter;
}

}  // namespace mirror::daemon
