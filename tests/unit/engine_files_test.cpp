// SPDX-License-Identifier: BSD-3-Clause
// An engine whose files were removed, played by a process with its command line and descriptors.
#include "daemon/engine_files.hpp"

#include <fcntl.h>
#include <filesystem>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "core/base/put_file.hpp"
#include "daemon/service.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
}

Fd listen_at(const std::string& path) {
    Fd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    const sockaddr_un address = address_of(path);
    REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(socket.get(), 4) == 0);
    return socket;
}

bool can_connect(const std::string& path) {
    const Fd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    const sockaddr_un address = address_of(path);
    return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
           0;
}

struct Engine {
    /// `user`: whose process it is.
    explicit Engine(uid_t user = ::geteuid()) {
        NodeConfig node;
        node.run_dir = dir.path() + "/run";
        std::filesystem::create_directory(node.run_dir);
        paths = EnginePaths::of(node, "r0");
        doors[0] = listen_at(paths.socket);
        doors[1] = listen_at(paths.express);
        const Fd first(::open(paths.socket.c_str(), O_PATH));
        const Fd second(::open(paths.express.c_str(), O_PATH));
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        const Fd until_it_runs(ends[0]);
        Fd closed_by_exec(ends[1]);
        pid = ::fork();
        if (pid == 0) {
            if (user != ::geteuid() && ::setuid(user) != 0) {
                ::_exit(1);
            }
            ::execlp("sh", "sh", "-c", "while :; do sleep 1; done", "-U", paths.socket.c_str(),
                     "volume=r0", "node=alpha", "error_file=/nowhere", nullptr);
            ::_exit(1);
        }
        closed_by_exec.reset();
        char nothing = 0;
        REQUIRE(::read(until_it_runs.get(), &nothing, 1) == 0);
    }
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    ~Engine() {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }

    test::TempDir dir;
    EnginePaths paths;
    Fd doors[2];
    pid_t pid = -1;
};

}  // namespace

TEST_CASE("the files of a running engine that were removed are made again, and work") {
    const Engine engine;
    CHECK(missing_engine_files(engine.paths) == std::vector<std::string>{engine.paths.pid_file});
    std::filesystem::remove_all(engine.dir.path() + "/run");
    CHECK(missing_engine_files(engine.paths).size() == 3);
    CHECK(EngineProcess::adopt(engine.paths, "alpha")->pid() == engine.pid);
    CHECK_FALSE(EngineProcess::adopt(engine.paths, "beta"));
    CHECK(restore_engine_files(engine.paths, engine.pid).empty());
    CHECK(has_pid_file(engine.paths, engine.pid));
    CHECK(EngineProcess::adopt(engine.paths, "alpha")->pid() == engine.pid);
    CHECK(can_connect(engine.paths.socket));
    CHECK(can_connect(engine.paths.express));
    // And again, after the links that were made.
    std::filesystem::remove_all(engine.dir.path() + "/run");
    CHECK(restore_engine_files(engine.paths, engine.pid).empty());
    CHECK(can_connect(engine.paths.socket));
}

TEST_CASE("a pid file that names another user's process by now names no engine") {
    if (::geteuid() != 0) {
        return;
    }
    constexpr uid_t stranger = 65533;
    const Engine engine(stranger);
    REQUIRE(put_file(engine.paths.pid_file, fmt::format("{}\n", engine.pid), 0644));
    CHECK(has_pid_file(engine.paths, engine.pid));
    CHECK_FALSE(EngineProcess::adopt(engine.paths, "alpha"));
}

TEST_CASE("what a process does not hold can't be made again, and is named") {
    const Engine engine;
    std::filesystem::remove_all(engine.dir.path() + "/run");
    const pid_t other = ::getpid();  // listens, but holds no descriptor of the files
    CHECK(restore_engine_files(engine.paths, other) ==
          std::vector<std::string>{engine.paths.socket, engine.paths.express});
}

TEST_CASE("mirrord's lock is taken anew when its file was removed, unless another one has it") {
    const test::TempDir dir;
    auto instance = Instance::claim(dir.path());
    REQUIRE(instance);
    CHECK(instance->is_named());
    CHECK_FALSE(Instance::claim(dir.path()));
    std::filesystem::remove(dir.file("mirrord.lock"));
    CHECK_FALSE(instance->is_named());
    REQUIRE(instance->name_again());
    CHECK(instance->is_named());
    CHECK_FALSE(Instance::claim(dir.path()));
    std::filesystem::remove(dir.file("mirrord.lock"));
    const auto other = Instance::claim(dir.path());
    REQUIRE(other);
    CHECK_FALSE(instance->name_again());
}
