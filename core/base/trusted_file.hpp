// SPDX-License-Identifier: BSD-3-Clause
// A local user without rights must not decide what mirrordisk reads, lead what it writes elsewhere
// by a link, read what is not meant for others, or keep it out by a lock. So every file is opened
// here, except disks, devices, /proc and /sys: packaging/quickstart/stages/opens.list names those
// places with their reasons, and the stage `static` refuses others.
//
// Trusted is what only root and the user of this process can change. Own files lie in RUN_DIR and
// STATE_DIR, whose paths are looked at when mirrord makes them. Any thread; no state.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <unistd.h>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"

namespace mirror {

/// Whether the last part of a path may be a symbolic link. The parts before it may, where the link
/// and all that it leads through are trusted.
enum class LastLink { followed, refused };

/// What is on the path, from / down, belongs to root or to us, and nobody else can write it; a
/// folder for everybody (/tmp) only with the sticky bit, and not as the last part. Answers the path
/// without its links; not_found where a part of it is missing.
[[nodiscard]] Result<std::string> require_trusted_path(const std::string& path,
                                                       LastLink last = LastLink::followed);

enum class Secrecy {
    open,    ///< others may read it
    secret,  ///< they may not
};

/// The content of a trusted regular file of at most `limit` bytes. It must be readable by its
/// owner's right alone: an engine has no capability that makes up for it.
[[nodiscard]] Result<std::string> read_trusted_file(const std::string& path, std::size_t limit,
                                                    Secrecy secrecy = Secrecy::open);

/// The same, opened for reading: for content that must not lie in memory like any other.
[[nodiscard]] Result<Fd> open_trusted_file(const std::string& path, Secrecy secrecy);

/// open(2) of an own file, which never follows a link, waits for nobody, and takes only a regular
/// file of root's or ours. `mode` is for a new one, under any umask; one of
/// ours that is there loses the rights beyond it.
[[nodiscard]] Result<Fd> open_own_file(const std::string& path, int flags, mode_t mode = 0600);

/// An own file that was not there before; what has its name loses it.
[[nodiscard]] Result<Fd> make_own_file(const std::string& path, mode_t mode = 0600);

/// The content of an own file of at most `limit` bytes.
[[nodiscard]] Result<std::string> read_own_file(const std::string& path, std::size_t limit);

/// A regular file for reading, whoever's it is: what is in it is only shown.
[[nodiscard]] Result<Fd> open_to_show(const std::string& path);

/// Makes new names in a folder last; `sync` is fsync(2) but in tests.
[[nodiscard]] Result<void> sync_folder(const std::string& path,
                                       const std::function<int(int)>& sync = ::fsync);

/// All of it.
[[nodiscard]] Result<void> write_all_to(int fd, std::string_view content, const std::string& path);

}  // namespace mirror
