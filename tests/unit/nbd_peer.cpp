// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/nbd_peer.hpp"

#include <arpa/inet.h>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <system_error>
#include <tuple>

#include <doctest/doctest.h>

#include "core/nbd/wire.hpp"

extern char** environ;

namespace mirror::test {

bool Nbdkit::is_installed() {
    for (const char* path : {"/usr/bin/nbdkit", "/usr/sbin/nbdkit", "/usr/local/sbin/nbdkit"}) {
        if (::access(path, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

Nbdkit::Nbdkit(const std::vector<std::string>& arguments) {
    const std::string pid_file = dir() + "/pid";
    std::vector<std::string> words{"nbdkit", "-f", "-U", dir() + "/socket", "-P", pid_file};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) {
        argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    REQUIRE(::posix_spawnp(&pid_, "nbdkit", nullptr, nullptr, argv.data(), environ) == 0);
    // nbdkit writes the pid file when it is ready to serve.
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (::access(pid_file.c_str(), F_OK) != 0) {
        REQUIRE(std::chrono::steady_clock::now() < until);
        ::poll(nullptr, 0, 5);
    }
}

Nbdkit::~Nbdkit() {
    signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

nbd::Address Nbdkit::address() const {
    return {.tcp = {}, .unix_path = dir() + "/socket"};
}

void Nbdkit::signal(int number) const {
    ::kill(pid_, number);
    if (number == SIGSTOP) {  // kill() returns before its threads have stopped
        ::waitpid(pid_, nullptr, WUNTRACED);
    }
}

RawServer::RawServer(std::function<void(Fd&)> script)
    : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(::bind(listener_.get(), generic, length) == 0);
    REQUIRE(::listen(listener_.get(), 8) == 0);
    REQUIRE(::getsockname(listener_.get(), generic, &length) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, script = std::move(script)] {
        connection_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (connection_.is_open()) {
            script(connection_);
        }
    });
}

RawServer::~RawServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);  // ends an accept that nobody came to
    thread_.join();
}

nbd::Address RawServer::address() const {
    return {.tcp = {.host = "127.0.0.1", .port = port_}, .unix_path = {}};
}

std::string big_endian(std::uint64_t value, std::size_t bytes) {
    std::string text;
    for (std::size_t i = bytes; i-- > 0;) {
        text += static_cast<char>(value >> (8 * i));
    }
    return text;
}

void send_bytes(int connection, const std::string& bytes) {
    std::ignore = ::send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

std::string receive_bytes(int connection, std::size_t count) {
    std::string bytes(count, '\0');
    const ssize_t got = ::recv(connection, bytes.data(), count, MSG_WAITALL);
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
}

void grant_export(int connection, std::uint64_t size) {
    send_bytes(
        connection,
        big_endian(nbd::init_magic, 8) + big_endian(nbd::option_magic, 8) +
            big_endian(nbd::handshake_flag::fixed_newstyle | nbd::handshake_flag::no_zeroes, 2));
    std::ignore = receive_bytes(connection, 4);  // the client's flags
    const std::string option = receive_bytes(connection, 16);
    REQUIRE(option.size() == 16);
    std::size_t length = 0;
    for (std::size_t i = 12; i < 16; ++i) {
        length = length << 8 | static_cast<unsigned char>(option[i]);
    }
    std::ignore = receive_bytes(connection, length);
    const std::string go = big_endian(nbd::option_reply_magic, 8) + option.substr(8, 4);
    const std::uint64_t flags =
        nbd::transmission_flag::has_flags | nbd::transmission_flag::send_flush |
        nbd::transmission_flag::send_fua | nbd::transmission_flag::send_write_zeroes;
    send_bytes(connection, go + big_endian(static_cast<std::uint64_t>(nbd::OptionReply::info), 4) +
                               big_endian(12, 4) + big_endian(0, 2) + big_endian(size, 8) +
                               big_endian(flags, 2));
    send_bytes(connection, go + big_endian(static_cast<std::uint64_t>(nbd::OptionReply::ack), 4) +
                               big_endian(0, 4));
}

}  // namespace mirror::test
