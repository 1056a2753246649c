// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/privileges.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sstream>
#include <string>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "core/base/fd.hpp"
#include "core/base/memory_lock.hpp"
#include "core/base/sanitized.hpp"
#include "core/base/write_limits.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using mirror::test::TempDir;

namespace {

/// What a child wrote, which gives up its privileges for good.
std::string in_child(const std::function<std::string()>& body) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const Fd reading(ends[0]);
    Fd writing(ends[1]);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const std::string text = body();
        const bool whole =
            ::write(writing.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
        ::_exit(whole ? 0 : 1);
    }
    writing.reset();
    std::string text;
    std::array<char, 4096> piece{};
    for (ssize_t got = 0; (got = ::read(reading.get(), piece.data(), piece.size())) > 0;) {
        text.append(piece.data(), static_cast<std::size_t>(got));
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    return text;
}

std::string status_of(const std::string& file, const std::string& name) {
    std::ifstream status(file);
    std::string line;
    while (std::getline(status, line)) {
        if (line.starts_with(name + ":\t")) {
            return line.substr(name.size() + 2);
        }
    }
    return "missing";
}

/// "" or which errno came instead of the one that is wanted.
std::string expect(const char* what, int wanted, long returned) {
    const int error = returned < 0 ? errno : 0;
    return error == wanted ? "" : fmt::format("{}: errno {}, not {}; ", what, error, wanted);
}

std::string refusals() {
    std::string text;
    const auto check = [&](const char* what, long returned, int wanted = EPERM) {
        text += expect(what, wanted, returned);
    };
    if (!is_sanitized) {
        char name[] = "/bin/true";
        char* const arguments[] = {name, nullptr};
        check("execve", ::execve(name, arguments, arguments + 1));
        check("execveat", ::syscall(SYS_execveat, AT_FDCWD, name, arguments, arguments + 1, 0));
        check("ptrace", ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr));
    }
    check("mount", ::mount("none", "/", "tmpfs", 0, nullptr));
    check("umount2", ::umount2("/nowhere", 0));
    check("fsopen", ::syscall(SYS_fsopen, "tmpfs", 0));
    check("chroot", ::chroot("/"));
    check("unshare", ::unshare(CLONE_NEWUSER));
    check("clone", ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, 0));
    check("clone3", ::syscall(SYS_clone3, nullptr, 0), ENOSYS);
    check("bpf", ::syscall(SYS_bpf, 0, nullptr, 0));
    check("process_vm_readv",
          ::syscall(SYS_process_vm_readv, ::getpid(), nullptr, 0, nullptr, 0, 0));
    check("io_uring_setup", ::syscall(SYS_io_uring_setup, 1, nullptr));
    check("kill", ::kill(::getppid(), 0));
    check("kill of a group", ::kill(0, 0));
    check("kill of all", ::kill(-1, 0));
    check("tgkill", ::syscall(SYS_tgkill, ::getppid(), ::getppid(), 0));
    check("tkill", ::syscall(SYS_tkill, ::getppid(), 0));
    siginfo_t from_a_queue{};
    from_a_queue.si_code = SI_QUEUE;
    check("sigqueue", ::syscall(SYS_rt_sigqueueinfo, ::getppid(), 0, &from_a_queue));
    check("tgsigqueue",
          ::syscall(SYS_rt_tgsigqueueinfo, ::getppid(), ::getppid(), 0, &from_a_queue));
    const Fd parent(static_cast<int>(::syscall(SYS_pidfd_open, ::getppid(), 0)));
    check("pidfd_send_signal", ::syscall(SYS_pidfd_send_signal, parent.get(), 0, nullptr, 0));
    check("process_mrelease", ::syscall(SYS_process_mrelease, parent.get(), 0));
    rlimit limit{};
    check("prlimit", ::prlimit(::getppid(), RLIMIT_NOFILE, nullptr, &limit));
    check("typing", ::ioctl(-1, TIOCSTI, "x"));
    check("typing, with bits that the kernel leaves out",
          ::syscall(SYS_ioctl, -1, (1UL << 32) | TIOCSTI, "x"));
    check("keyctl", ::syscall(SYS_keyctl, 0, 0, 0, 0, 0));
    check("packets", ::socket(AF_PACKET, SOCK_RAW, 0), EAFNOSUPPORT);
    check("a family beyond all", ::socket(AF_VSOCK, SOCK_STREAM, 0), EAFNOSUPPORT);
    check("raw", ::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
    check("netlink of nbd", ::socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC));
    return text;
}

std::string work_of_an_engine(const std::string& folder) {
    std::string text;
    const auto check = [&](const char* what, bool went_on) {
        text += went_on ? "" : fmt::format("{}: errno {}; ", what, errno);
    };
    const std::string path = folder + "/file";
    const Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    check("open", file.is_open());
    check("write", ::pwrite(file.get(), "word", 4, 4096) == 4);
    check("fallocate",
          ::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 ||
              errno == EOPNOTSUPP);
    check("fdatasync", ::fdatasync(file.get()) == 0);
    check("rename", ::rename(path.c_str(), (path + "2").c_str()) == 0);
    addrinfo* found = nullptr;
    const addrinfo hints{.ai_flags = AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM};
    check("getaddrinfo", ::getaddrinfo("localhost", "1", &hints, &found) == 0);
    ::freeaddrinfo(found);
    const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    check("bind", ::bind(listener.get(), any, length) == 0 && ::listen(listener.get(), 1) == 0 &&
                      ::getsockname(listener.get(), any, &length) == 0);
    const Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    check("connect", ::connect(client.get(), any, length) == 0);
    (void)::signal(SIGUSR1, SIG_IGN);
    check("raise", ::raise(SIGUSR1) == 0 && ::pthread_kill(::pthread_self(), SIGUSR1) == 0 &&
                       ::kill(::getpid(), 0) == 0);
    rlimit limit{};
    check("a limit",
          ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && ::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    check("a Unix socket", Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)).is_open());
    std::string in_thread;
    std::thread([&] { in_thread = refusals(); }).join();
    return text + in_thread;
}

bool has_landlock() {
    return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

std::string writes_refused(const TempDir& other, const TempDir& own) {
    std::string text;
    const auto check = [&](const char* what, long returned, int wanted = EACCES) {
        text += expect(what, wanted, returned);
    };
    const std::string there = other.file("there");
    const std::string fresh = other.file("fresh");
    check("open", ::open(there.c_str(), O_RDWR | O_CLOEXEC));
    check("make", ::open(fresh.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0700));
    check("unlink", ::unlink(there.c_str()));
    check("rename", ::rename(there.c_str(), fresh.c_str()));
    check("mkdir", ::mkdir(fresh.c_str(), 0700));
    check("symlink", ::symlink("there", fresh.c_str()));
    check("another's memory", ::open("/proc/1/oom_score_adj", O_WRONLY | O_CLOEXEC));
    const std::string inside = own.file("leaves");
    const Fd leaves(::open(inside.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    check("out of its folder", ::rename(inside.c_str(), fresh.c_str()), EACCES);
    check("a device", ::mknod(own.file("device").c_str(), S_IFBLK | 0600, 0), EPERM);
    return text;
}

std::string writes_allowed(const TempDir& own, const Fd& open) {
    std::string text;
    const auto check = [&](const char* what, bool went_on) {
        text += went_on ? "" : fmt::format("{}: errno {}; ", what, errno);
    };
    check("write to what is open", ::pwrite(open.get(), "word", 4, 0) == 4);
    check("its length", ::ftruncate(open.get(), 4096) == 0);
    check("read what is elsewhere", Fd(::open("/etc/passwd", O_RDONLY | O_CLOEXEC)).is_open());
    check("write to nowhere", Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)).is_open());
    check("mkdir", ::mkdir(own.file("folder").c_str(), 0700) == 0);
    const std::string one = own.file("folder/one");
    const Fd made(::open(one.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
    check("make", made.is_open() && ::truncate(one.c_str(), 512) == 0);
    check("rename", ::rename(one.c_str(), own.file("folder/two").c_str()) == 0);
    check("unlink", ::unlink(own.file("folder/two").c_str()) == 0);
    return text;
}

}  // namespace

TEST_CASE("what an engine gives up is refused, in later threads too, and its own work goes on") {
    const TempDir folder;
    CHECK(in_child([&] {
              give_up_privileges("a test");
              return refusals() + work_of_an_engine(folder.path());
          }) == "");
}

TEST_CASE("an engine that aborts ends by that signal, which its core file and log are read for") {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        constexpr rlimit none{0, 0};
        (void)::setrlimit(RLIMIT_CORE, &none);
        (void)::signal(SIGABRT, SIG_DFL);
        give_up_privileges("a test");
        std::abort();
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGABRT);
}

TEST_CASE("threads that are there already are held to the same system calls") {
    CHECK(in_child([] {
              std::array<int, 2> ends{};
              if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
                  return std::string("no pipe");
              }
              std::string text;
              std::thread earlier([&] {
                  char byte = 0;
                  (void)!::read(ends[0], &byte, 1);
                  text = expect("chroot", EPERM, ::chroot("/")) +
                         expect("fsopen", EPERM, ::syscall(SYS_fsopen, "tmpfs", 0));
              });
              give_up_privileges("a test");
              (void)!::write(ends[1], "!", 1);
              earlier.join();
              return text;
          }) == "");
}

TEST_CASE(
    "who writes in its folders alone makes, changes and removes files there, and nowhere else") {
    if (!has_landlock()) {
        MESSAGE("needs a kernel with Landlock");
        return;
    }
    const TempDir own;
    const TempDir other;
    const std::string there = other.file("there");
    const Fd open(::open(there.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(::pwrite(open.get(), "old", 3, 0) == 3);
    CHECK(in_child([&] {
              give_up_privileges("a test");
              if (const int error = limit_writes_to(std::array{own.path()}); error != 0) {
                  return fmt::format("no limit: errno {}", error);
              }
              std::string in_thread;
              std::thread([&] { in_thread = writes_refused(other, own); }).join();
              return writes_refused(other, own) + in_thread + writes_allowed(own, open) +
                     work_of_an_engine(own.path());
          }) == "");
    CHECK(std::filesystem::file_size(there) == 4096);
    CHECK(std::distance(std::filesystem::directory_iterator(other.path()), {}) == 1);
}

TEST_CASE("a folder that is not there limits nothing, and is an error") {
    if (!has_landlock()) {
        MESSAGE("needs a kernel with Landlock");
        return;
    }
    const TempDir folder;
    CHECK(in_child([&]() -> std::string {
              (void)::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL);
              const int error = limit_writes_to(std::array{folder.file("nowhere")});
              const Fd made(::open(folder.file("x").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
              return error == ENOENT && made.is_open() ? "" : fmt::format("errno {}", error);
          }) == "");
}

TEST_CASE(
    "all capabilities are gone, but for what locked memory needs, and new ones can't be had") {
    const std::string none = "0000000000000000";
    const std::string lock = "0000000000004000";
    const bool may_forbid = ::prctl(PR_CAPBSET_READ, CAP_SETPCAP, 0, 0, 0) == 1 && ::geteuid() == 0;
    const bool had_lock =
        (std::stoull(status_of("/proc/self/status", "CapEff"), nullptr, 16) & 0x4000U) != 0;
    const std::string told = in_child([] {
        give_up_privileges("a test");
        rlimit limit{};
        (void)::getrlimit(RLIMIT_MEMLOCK, &limit);
        std::string text = limit.rlim_cur == RLIM_INFINITY ? "infinite " : "finite ";
        for (const char* name : {"CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs"}) {
            text += status_of("/proc/self/status", name) + " ";
        }
        return text;
    });
    const std::string kept = had_lock && told.starts_with("finite") ? lock : none;
    CHECK(told.substr(told.find(' ') + 1) == fmt::format("{0} {1} {1} {0} 1 ", none, kept));
    if (may_forbid) {
        CHECK(in_child([] {
                  give_up_privileges("a test");
                  return status_of("/proc/self/status", "CapBnd");
              }) == none);
    }
}

TEST_CASE("locked memory stays, and grows, without the capability for it") {
    if (is_sanitized || ::geteuid() != 0) {
        MESSAGE("needs root, and no sanitizer");
        return;
    }
    CHECK(in_child([]() -> std::string {
              constexpr rlimit small{64 << 10, 64 << 10};
              (void)::setrlimit(RLIMIT_MEMLOCK, &small);
              stand_memory_pressure("a test");
              give_up_privileges("a test");
              constexpr std::size_t much = std::size_t{8} << 20;
              void* const more =
                  ::mmap(nullptr, much, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              return more != MAP_FAILED ? "" : fmt::format("mmap: errno {}", errno);
          }) == "");
}

TEST_CASE("mirrord gives up what is listed, and nothing else") {
    if (::geteuid() != 0) {
        MESSAGE("needs root");
        return;
    }
    const auto sets = [] {
        std::ostringstream text;
        for (const char* name : {"CapPrm", "CapEff", "CapBnd"}) {
            text << std::hex << std::stoull(status_of("/proc/self/status", name), nullptr, 16)
                 << ' ';
        }
        return text.str();
    };
    const auto without_clock = [] {
        constexpr std::uint64_t clock = std::uint64_t{1} << CAP_SYS_TIME;
        std::ostringstream text;
        for (const char* name : {"CapPrm", "CapEff", "CapBnd"}) {
            text << std::hex
                 << (std::stoull(status_of("/proc/self/status", name), nullptr, 16) & ~clock)
                 << ' ';
        }
        return text.str();
    };
    CHECK(in_child([&] {
              give_up_capabilities("a test", std::array{static_cast<unsigned>(CAP_SYS_TIME)});
              return sets();
          }) == without_clock());
}
