// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/running_engines.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <sstream>
#include <unistd.h>

#include "core/base/fd.hpp"

namespace mirror::daemon {
namespace {

std::vector<std::string> arguments_of(const std::filesystem::path& process) {
    const std::string line = read_process_file(process / "cmdline").value_or("");
    std::vector<std::string> arguments;
    for (std::size_t begin = 0; begin < line.size();) {
        const std::size_t end = std::min(line.find('\0', begin), line.size());
        arguments.push_back(line.substr(begin, end - begin));
        begin = end + 1;
    }
    return arguments;
}

/// Whether the process is ours in every respect: a program that is set-user-ID and that somebody
/// else started is not.
bool runs_as_us(const std::filesystem::path& process) {
    std::istringstream file(read_process_file(process / "status").value_or(""));
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("Uid:")) {
            std::istringstream users(line.substr(4));
            int count = 0;
            for (uid_t user = 0; users >> user; ++count) {
                if (user != ::geteuid()) {
                    return false;
                }
            }
            return count == 4;  // real, effective, saved, of the filesystem
        }
    }
    return false;
}

/// Nothing where the words are not those of EngineProcess::spawn.
std::optional<RunningEngine> parse(const std::vector<std::string>& arguments) {
    RunningEngine engine;
    bool has_plugin = false;
    for (std::size_t at = 0; at < arguments.size(); ++at) {
        const std::string& word = arguments[at];
        const auto take = [&](std::string_view key, std::string& into) {
            if (word.starts_with(key)) {
                into = word.substr(key.size());
            }
        };
        take("volume=", engine.volume);
        take("node=", engine.node);
        take("config=", engine.config);
        if (word == "-U" && at + 1 < arguments.size()) {
            engine.socket = arguments[at + 1];
        }
        has_plugin = has_plugin || word.starts_with("error_file=");
    }
    const bool is_engine = has_plugin && !engine.volume.empty() && !engine.node.empty() &&
                           engine.socket.starts_with('/');
    return is_engine ? std::optional(engine) : std::nullopt;
}

}  // namespace

std::optional<std::string> read_process_file(const std::string& path) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string content;
    std::array<char, 4096> part{};
    while (file.is_open()) {
        const ssize_t got = ::read(file.get(), part.data(), part.size());
        if (got == 0) {
            return content;
        }
        if (got < 0 && errno != EINTR) {
            break;
        }
        content.append(part.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    }
    return std::nullopt;
}

std::string RunningEngine::run_dir() const {
    return std::filesystem::path(socket).parent_path().string();
}

bool RunningEngine::was_given_its_settings() const {
    return config == run_dir() + "/" + volume + ".settings";
}

std::vector<RunningEngine> find_engines(const std::string& proc) {
    std::vector<RunningEngine> found;
    std::error_code code;
    // Processes come and go meanwhile: whatever can't be read is none of ours.
    for (std::filesystem::directory_iterator each(proc, code), end; !code && each != end;
         each.increment(code)) {
        const std::string name = each->path().filename().string();
        pid_t pid = 0;
        const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (error != std::errc{} || stop != name.data() + name.size() || pid <= 0) {
            continue;
        }
        auto engine = parse(arguments_of(each->path()));
        if (engine && runs_as_us(each->path())) {
            engine->pid = pid;
            found.push_back(std::move(*engine));
        }
    }
    return found;
}

std::optional<RunningEngine> engine_at(const std::string& socket) {
    for (RunningEngine& engine : find_engines()) {
        if (engine.socket == socket) {
            return std::move(engine);
        }
    }
    return std::nullopt;
}

}  // namespace mirror::daemon
