// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/device.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <unistd.h>

#include "daemon/spawn.hpp"

namespace mirror::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds tool_deadline{20};

std::string base_name(const std::string& device) {
    return fs::path(device).filename().string();
}

bool path_exists(const std::string& path) {
    std::error_code code;
    return fs::exists(path, code);
}

/// Where the device or a partition of it is mounted; empty: nowhere.
std::string mount_point_of(const std::string& device) {
    std::ifstream mounts("/proc/mounts");
    std::string line;
    while (std::getline(mounts, line)) {
        std::istringstream words(line);
        std::string source;
        std::string target;
        words >> source >> target;
        if (source == device || source.starts_with(device + "p")) {
            return target;
        }
    }
    return {};
}

/// "dm-0, md1": devices stacked on this one.
std::string holders_of(const std::string& device) {
    std::string holders;
    std::error_code code;
    for (const auto& entry :
         fs::directory_iterator("/sys/block/" + base_name(device) + "/holders", code)) {
        holders += (holders.empty() ? "" : ", ") + entry.path().filename().string();
    }
    return holders;
}

bool has_open(const fs::path& process, const std::string& device) {
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(process / "fd", code)) {
        const fs::path target = fs::read_symlink(entry.path(), code);
        if (!code && target == device) {
            return true;
        }
    }
    return false;
}

/// "fio (pid 4711), dd (pid 4712)": processes that have the device open.
std::string openers_of(const std::string& device) {
    std::string openers;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator("/proc", code)) {
        const std::string pid = entry.path().filename().string();
        if (pid.find_first_not_of("0123456789") == std::string::npos &&
            has_open(entry.path(), device)) {
            std::ifstream file(entry.path() / "comm");
            std::string name;
            std::getline(file, name);
            openers += fmt::format("{}{} (pid {})", openers.empty() ? "" : ", ", name, pid);
        }
    }
    return openers;
}

class NbdClientAttacher final : public DeviceAttacher {
  public:
    Result<void> attach(const std::string& device, const std::string& socket,
                        const std::string& volume) override {
        if (auto usable = require_driver(device, socket); !usable) {
            return usable;
        }
        if (is_attached(device)) {
            return fail(ErrorKind::busy, "{} is attached to something already", device);
        }
        return run({"nbd-client", "-unix", socket, "-N", volume, device}, device);
    }

    Result<void> detach(const std::string& device) override {
        if (!is_attached(device)) {
            return {};
        }
        if (auto unused = require_unused(device); !unused) {
            return unused;
        }
        return run({"nbd-client", "-d", device}, device);
    }

    [[nodiscard]] bool is_attached(const std::string& device) const override {
        return path_exists("/sys/block/" + base_name(device) + "/pid");
    }

    [[nodiscard]] Result<void> require_unused(const std::string& device) const override {
        if (!is_attached(device)) {
            return {};
        }
        if (const std::string where = mount_point_of(device); !where.empty()) {
            return Failure(Error{ErrorKind::busy, fmt::format("{} is mounted on {}", device, where),
                                 fmt::format("umount {}", where)});
        }
        if (const std::string holders = holders_of(device); !holders.empty()) {
            return fail(ErrorKind::busy, "{} is used by {}", device, holders);
        }
        if (const std::string openers = openers_of(device); !openers.empty()) {
            return fail(ErrorKind::busy, "{} is open in {}", device, openers);
        }
        return {};
    }

  private:
    static Result<void> require_driver(const std::string& device, const std::string& socket) {
        if (path_exists("/sys/module/nbd") && path_exists(device)) {
            return {};
        }
        return Failure(Error{
            ErrorKind::not_found,
            path_exists("/sys/module/nbd")
                ? fmt::format("there is no device {}", device)
                : fmt::format("the kernel's nbd driver is not loaded, so there is no {}", device),
            fmt::format("modprobe nbd; where the kernel has none, use the volume as NBD at "
                        "{}, or as a file with nbdfuse(1)",
                        socket)});
    }

    static Result<void> run(const std::vector<std::string>& arguments, const std::string& device) {
        const auto output = run_tool(arguments, tool_deadline);
        if (output) {
            return {};
        }
        Error error = output.error().within(device);
        if (error.kind == ErrorKind::not_found) {
            error.remedy = "install the package nbd-client (Debian) or nbd (Fedora)";
        }
        return Failure(error);
    }
};

}  // namespace

std::unique_ptr<DeviceAttacher> make_nbd_client_attacher() {
    return std::make_unique<NbdClientAttacher>();
}

}  // namespace mirror::daemon
