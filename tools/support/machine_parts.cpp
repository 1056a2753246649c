// SPDX-License-Identifier: BSD-3-Clause
#include "tools/support/machine_parts.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <initializer_list>
#include <string_view>
#include <sys/stat.h>
#include <system_error>

#include "core/base/json.hpp"
#include "core/base/trusted_file.hpp"
#include "core/base/units.hpp"
#include "core/config/own_names.hpp"
#include "core/control/messages.hpp"
#include "core/meta/meta_file.hpp"
#include "core/tls/psk_file.hpp"
#include "tools/events_file.hpp"

namespace mirror::tools {
namespace {

namespace files = std::filesystem;
using std::chrono::seconds;

constexpr seconds for_a_file{5};
constexpr seconds for_a_program{10};
constexpr seconds for_a_journal{30};

struct ProgramPart {
    const char* name;
    std::vector<std::string> program;
    seconds limit = for_a_program;
};

std::vector<ProgramPart> programs() {
    return {
        {"versions/uname.txt", {"uname", "-a"}},
        {"versions/mirrord.txt", {"mirrord", "--version"}},
        {"versions/nbdkit.txt", {"nbdkit", "--version"}},
        {"versions/deb.txt", {"dpkg-query", "--show", "*mirror*", "nbdkit*", "libgnutls30*"}},
        {"versions/rpm.txt",
         {"rpm", "--query", "mirrordisk", "nbdkit-mirror-plugin", "nbdkit-server", "gnutls"}},
        {"systemd/status.txt",
         {"systemctl", "--no-pager", "--full", "--lines=0", "status", "mirrord.service",
          "mirrordisk*"}},
        {"systemd/show.txt",
         {"systemctl", "show", "mirrord.service",
          "--property=ActiveState,SubState,Result,NRestarts,MainPID,ExecMainStatus,"
          "ActiveEnterTimestamp,MemoryCurrent,TasksCurrent,FragmentPath,DropInPaths,WatchdogUSec"}},
        {"journal/mirrordisk.txt",
         {"journalctl", "--no-pager", "--output=short-iso-precise", "--lines=20000",
          "--unit=mirrord.service", "--unit=mirrordisk*"},
         for_a_journal},
        {"journal/kernel.txt",
         {"journalctl", "--no-pager", "--output=short-iso-precise", "--dmesg", "--lines=500"},
         for_a_journal},
        {"disks/lsblk.txt",
         {"lsblk", "--output", "NAME,MAJ:MIN,TYPE,SIZE,RO,ROTA,SCHED,FSTYPE,MOUNTPOINTS"}},
        {"disks/df.txt", {"df", "--human-readable", "--print-type"}},
        {"network/addresses.txt", {"ip", "-brief", "address"}},
        {"network/sockets.txt", {"ss", "--tcp", "--listening", "--numeric"}},
        {"processes/threads.txt",
         {"ps", "-L", "-C", "mirrord,nbdkit,mirrorctl", "-o",
          "pid,ppid,lwp,uid,stat,pcpu,rss,wchan:32,etime,comm"}},
    };
}

constexpr std::array system_files{
    "/usr/lib/os-release", "/proc/meminfo",         "/proc/loadavg",           "/proc/pressure/io",
    "/proc/pressure/cpu",  "/proc/pressure/memory", "/proc/sys/kernel/tainted"};

constexpr std::size_t most_of_a_file = std::size_t{1} << 20;
constexpr std::size_t most_events = std::size_t{16} << 20;

std::string line_about(const files::path& path, const files::path& shown) {
    struct stat found {};
    if (::lstat(path.c_str(), &found) != 0) {
        return fmt::format("?                            {}\n", shown.string());
    }
    const char kind = S_ISDIR(found.st_mode)    ? 'd'
                      : S_ISREG(found.st_mode)  ? '-'
                      : S_ISLNK(found.st_mode)  ? 'l'
                      : S_ISSOCK(found.st_mode) ? 's'
                                                : '?';
    const WallTime changed{seconds(found.st_mtim.tv_sec)};
    return fmt::format("{}{:04o} {:>5}:{:<5} {:>14} {} {}\n", kind, found.st_mode & 07777U,
                       found.st_uid, found.st_gid, found.st_size, format_rfc3339(changed),
                       shown.string());
}

/// Names, modes, owners, sizes; nothing of what is in them.
Result<std::string> listing(const std::string& folder) {
    constexpr int deepest = 2;
    constexpr std::size_t most_lines = 10000;
    std::error_code code;
    std::string text = line_about(folder, folder);
    std::size_t lines = 0;
    files::recursive_directory_iterator entry(folder, files::directory_options::none, code);
    if (code) {
        return fail_errno(code.value(), folder);
    }
    const files::recursive_directory_iterator end;
    while (entry != end && !code && ++lines < most_lines) {
        text += line_about(entry->path(), entry->path().lexically_relative(folder));
        if (entry.depth() >= deepest) {
            entry.disable_recursion_pending();
        }
        entry.increment(code);
    }
    return text;
}

Result<std::string> config_text(const std::string& path) {
    std::error_code code;
    const files::path file = files::canonical(path, code);
    if (code) {
        return fail_errno(code.value(), path);
    }
    return end_of_file(file.string(), most_of_a_file);
}

Result<std::string> all_events(const std::string& state_dir) {
    std::string text;
    EventsFile file(fmt::format("{}/{}", state_dir, own_names::events));
    const auto read = file.read_all([&](std::string_view line) {
        text += line;
        text += '\n';
    });
    if (!read) {
        return Failure(read.error());
    }
    if (text.size() > most_events) {
        text.erase(0, text.find('\n', text.size() - most_events) + 1);
    }
    return text;
}

/// The superblock in words: what is on this node's record, whatever mirrord says.
Result<std::string> metadata_words(const std::string& path) {
    return read_superblock(path).map([](const Superblock& block) {
        nlohmann::json all = control::encode(summarize(block, 0, 0));
        all["sequence"] = block.sequence;
        all["name"] = block.volume_name;
        all["of_node"] = block.node;
        all["of_peer"] = block.peer;
        all["paused"] = block.paused;
        all["last_update"] = control::encode(block.last_update);
        all["synced_at"] = control::encode(block.synced_at);
        all["backing_identity"] = block.backing_identity;
        all["media_errors"] = block.media_errors;
        constexpr int indent = 2;
        return all.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
    });
}

/// Sorted; none where the folder can't be read in time.
std::vector<std::string> names_in(const std::string& folder) {
    const auto listed = look_within(for_a_file, [folder]() -> Result<std::string> {
        std::string lines;
        std::error_code code;
        for (files::directory_iterator entry(folder, code), end; !code && entry != end;
             entry.increment(code)) {
            lines += entry->path().filename().string() + '\n';
        }
        return lines;
    });
    std::vector<std::string> names;
    for (std::string_view left = listed ? *listed : std::string_view(); !left.empty();) {
        const std::size_t end = left.find('\n');
        names.emplace_back(left.substr(0, end));
        left.remove_prefix(end + 1);
    }
    std::sort(names.begin(), names.end());
    return names;
}

void take_metadata(Bundle& bundle, const NodeConfig& node) {
    for (const std::string& volume : names_in(node.state_dir)) {
        if (is_valid_name(volume) && !volume.starts_with(own_names::events)) {
            bundle.take(
                fmt::format("metadata/{}.json", volume), for_a_file,
                [path = meta_path(node.state_dir, volume)] { return metadata_words(path); });
        }
    }
}

/// What each file of /proc that is there says.
std::string process_files(const std::string& folder, std::initializer_list<const char*> names) {
    std::string text;
    for (const char* name : names) {
        const auto content = end_of_file(fmt::format("{}/{}", folder, name), most_of_a_file);
        text += content ? fmt::format("== {}\n{}\n", name, *content)
                        : fmt::format("== {}: {}\n", name, content.error().message);
    }
    return text;
}

/// No environment, and no memory.
Result<std::string> process_words(const std::string& pid) {
    constexpr std::size_t most_threads = 256;
    const std::string folder = "/proc/" + pid;
    std::string text = process_files(folder, {"comm", "status", "stat", "limits", "io", "cgroup",
                                              "oom_score_adj", "smaps_rollup", "wchan"});
    std::error_code code;
    text += "== fd\n";
    for (files::directory_iterator entry(folder + "/fd", code), end; !code && entry != end;
         entry.increment(code)) {
        std::error_code unreadable;
        text += fmt::format("{} {}\n", entry->path().filename().string(),
                            files::read_symlink(entry->path(), unreadable).string());
    }
    std::size_t threads = 0;
    for (files::directory_iterator entry(folder + "/task", code), end;
         !code && entry != end && ++threads <= most_threads; entry.increment(code)) {
        text += fmt::format("== thread {}\n", entry->path().filename().string());
        text += process_files(entry->path().string(), {"comm", "wchan", "syscall", "stack"});
    }
    return text;
}

/// Digits, and nothing else: it becomes part of a path.
std::string pid_in(const std::string& file) {
    constexpr std::size_t most = 64;
    const auto text = read_own_file(file, most);
    int pid = 0;
    if (!text ||
        std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc{} ||
        pid <= 1) {
        return {};
    }
    return std::to_string(pid);
}

void take_processes(Bundle& bundle, const NodeConfig& node) {
    std::vector<std::pair<std::string, std::string>> found{
        {"mirrord", fmt::format("{}/{}", node.run_dir, own_names::daemon_lock)}};
    for (const std::string& name : names_in(node.run_dir)) {
        if (name.ends_with(own_names::engine_pid)) {
            found.emplace_back(
                "engine-" + name.substr(0, name.size() - own_names::engine_pid.size()),
                fmt::format("{}/{}", node.run_dir, name));
        }
    }
    std::error_code code;
    for (const auto& [name, file] : found) {
        const std::string pid = pid_in(file);
        const std::string part = fmt::format("processes/{}.txt", name);
        if (pid.empty()) {
            bundle.add(part, fail(ErrorKind::not_found, "{} names no process", file));
        } else if (!files::exists("/proc/" + pid, code)) {
            bundle.add(part, fail(ErrorKind::not_found, "process {} of {} has ended", pid, file));
        } else {
            bundle.take(part, for_a_program, [pid] { return process_words(pid); });
        }
    }
}

}  // namespace

void take_machine(Bundle& bundle) {
    for (const ProgramPart& part : programs()) {
        bundle.take_output(part.name, part.program, part.limit);
    }
    for (const char* const file : system_files) {
        const std::string path = file;
        std::string name = path.substr(1);
        std::replace(name.begin(), name.end(), '/', '-');
        bundle.take(fmt::format("system/{}.txt", name), for_a_file,
                    [path] { return end_of_file(path, most_of_a_file); });
    }
}

void take_configuration(Bundle& bundle, const std::string& path, const TlsConfig& protection) {
    // Read only to be left out. One that can't be read is in no other part by this program's hand.
    if (const auto keys = tls::legible_keys(protection.psk_file)) {
        for (const tls::PskKey& key : *keys) {
            bundle.know(key.secret);
        }
    }
    bundle.take("config/mirrordisk.toml", for_a_file, [path] { return config_text(path); });
    const std::string folder = files::absolute(path).parent_path().string();
    bundle.take("config/listing.txt", for_a_file, [folder] { return listing(folder); });
}

void take_node(Bundle& bundle, const NodeConfig& node) {
    bundle.take("events.jsonl", for_a_file,
                [state_dir = node.state_dir] { return all_events(state_dir); });
    for (const auto& [name, folder] :
         {std::pair("state_dir", node.state_dir), std::pair("run_dir", node.run_dir)}) {
        bundle.take(fmt::format("listings/{}.txt", name), for_a_file,
                    [folder = folder] { return listing(folder); });
    }
    take_metadata(bundle, node);
    take_processes(bundle, node);
}

}  // namespace mirror::tools
