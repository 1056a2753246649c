// SPDX-License-Identifier: BSD-3-Clause
// Mounting a volume's device, by mount(8) and umount(8), which know every filesystem's helpers.
// Behind an interface, so that what is done around it is tested without a kernel device. Any
// thread; mounting and unmounting wait.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.hpp"

namespace mirror::daemon {

enum class Content { filesystem, empty, unknown };

class Mounter {
  public:
    virtual ~Mounter() = default;

    /// Where the device, or a partition of it, is mounted, as the kernel names it.
    [[nodiscard]] virtual std::vector<std::string> mount_points(const std::string& device) = 0;
    /// The kernel's name of a directory: without symbolic links.
    [[nodiscard]] virtual std::string resolved(const std::string& directory) = 0;
    /// What is mounted at or below a directory, but the device itself at that directory:
    /// "/srv/data/sub". Empty: nothing.
    [[nodiscard]] virtual std::string mounted_within(const std::string& directory,
                                                     const std::string& device) = 0;
    /// Whether there is anything on the device that could be mounted.
    [[nodiscard]] virtual Content content(const std::string& device) = 0;
    /// Makes the directory where it is missing.
    [[nodiscard]] virtual Result<void> mount(const std::string& device,
                                             const std::string& directory,
                                             const std::string& options) = 0;
    [[nodiscard]] virtual Result<void> unmount(const std::string& directory) = 0;
    /// "postgres (pid 4711), bash (pid 815)": who keeps it from being unmounted; empty: nobody that
    /// can be seen.
    [[nodiscard]] virtual std::string users(const std::string& directory) = 0;
};

/// The machine's own; it keeps no state.
[[nodiscard]] Mounter& system_mounter();

/// The argument of mount -o for the configured options. What is on the volume may come from the
/// other node, and the mount happens unattended: so without setuid programs and device nodes,
/// unless the options say `suid`, `dev`.
[[nodiscard]] std::string mount_argument(const std::string& options);

/// One line of /proc/self/mountinfo.
struct MountEntry {
    unsigned major = 0;
    unsigned minor = 0;
    std::string directory;
    std::string type;
    std::string source;
    std::string options;  ///< of the filesystem, not of this mount of it
};
[[nodiscard]] std::vector<MountEntry> parse_mounts(const std::string& mountinfo);

}  // namespace mirror::daemon
