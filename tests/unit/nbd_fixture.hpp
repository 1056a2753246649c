// SPDX-License-Identifier: BSD-3-Clause
// For the tests of the NBD server: exports in memory that count what is done to them, a server on a
// Unix socket in a directory of its own, and a client that sends any bytes it likes.
#pragma once

#include <arpa/inet.h>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "core/base/sync.hpp"
#include "core/nbd/server.hpp"
#include "core/nbd/wire.hpp"
#include "eventually.hpp"
#include "temp_dir.hpp"

namespace mirror::test {

using namespace std::chrono_literals;
using Bytes = std::vector<std::byte>;

struct MemoryDisk {
    nbd::Traits traits{.size = 64 * MiB,
                       .flush = true,
                       .trim = true,
                       .zero = true,
                       .multi_conn = true,
                       .extents = true,
                       .description = "a disk in memory"};
    Mutex mutex;
    Bytes content GUARDED_BY(mutex) = Bytes(64 * MiB);
    std::atomic<int> writes{0}, flushes{0}, exports{0};
    std::atomic<int> writes_at_last_flush{0};
    std::atomic<bool> fail_reads{false}, fail_writes{false}, fail_flushes{false};
    std::atomic<bool> throw_on_write{false};
    std::function<void()> before_write;  ///< set before the first client
    std::function<std::vector<Extent>(ByteRange)> extents;

    /// What the latest export was given.
    std::function<void()> shutdown GUARDED_BY(mutex);
    std::function<void()> shutdown_callback() {
        MutexLock lock(mutex);
        return shutdown;
    }
    std::byte byte_at(std::size_t offset) {
        MutexLock lock(mutex);
        return content[offset];
    }
};

class MemoryExport final : public nbd::Export {
  public:
    explicit MemoryExport(MemoryDisk& disk) : disk_(disk) { ++disk_.exports; }
    ~MemoryExport() override { --disk_.exports; }

    nbd::Traits traits() const override { return disk_.traits; }
    Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        if (disk_.fail_reads) {
            return fail(ErrorKind::io, "the disk is unreadable");
        }
        MutexLock lock(disk_.mutex);
        std::memcpy(into.data(), disk_.content.data() + offset, into.size());
        return {};
    }
    Result<void> write(std::span<const std::byte> from, std::uint64_t offset) override {
        if (disk_.before_write) {
            disk_.before_write();
        }
        if (disk_.throw_on_write) {
            throw std::bad_alloc();
        }
        if (disk_.fail_writes) {
            return fail(ErrorKind::no_space, "the disk is full");
        }
        MutexLock lock(disk_.mutex);
        std::memcpy(disk_.content.data() + offset, from.data(), from.size());
        ++disk_.writes;
        return {};
    }
    Result<void> zero(ByteRange range, Space) override {
        MutexLock lock(disk_.mutex);
        std::memset(disk_.content.data() + range.offset, 0, range.length);
        ++disk_.writes;
        return {};
    }
    Result<void> trim(ByteRange range) override { return zero(range, Space::may_free); }
    Result<void> flush() override {
        ++disk_.flushes;
        disk_.writes_at_last_flush = disk_.writes.load();
        return disk_.fail_flushes ? fail(ErrorKind::io, "flush failed") : Result<void>();
    }
    Result<std::vector<Extent>> extents(ByteRange range) override {
        return disk_.extents ? disk_.extents(range) : std::vector<Extent>{{range, false}};
    }

  private:
    MemoryDisk& disk_;
};

class MemoryProvider final : public nbd::ExportProvider {
  public:
    std::vector<std::string> list(const nbd::Client&) override { return {"disk"}; }
    Result<std::unique_ptr<nbd::Export>> open(const std::string& name, const nbd::Client& client,
                                              std::function<void()> shutdown) override {
        if (name == "secret") {
            return fail(ErrorKind::refused, "this is not for you");
        }
        if (name != "disk") {
            return fail(ErrorKind::not_found, "no export '{}'", name);
        }
        MutexLock lock(disk.mutex);
        disk.shutdown = std::move(shutdown);
        last_client = client;
        return std::make_unique<MemoryExport>(disk);
    }

    MemoryDisk disk;
    nbd::Client last_client;
};

struct Fixture {
    explicit Fixture(nbd::ServerLimits limits = {}) : server(provider, limits) {
        const Result<void> listening = server.listen_unix(socket, 0600);
        REQUIRE_MESSAGE(listening, listening.error().text());
    }
    ~Fixture() { server.stop(); }

    MemoryProvider provider;
    nbd::Server server;
    MemoryDisk& disk = provider.disk;
    const TempDir directory;
    const std::string socket = directory.file("s");
};

/// Appends big-endian numbers and texts.
struct Message {
    Bytes bytes{};

    template <typename T>
    Message& number(T value) {
        const std::size_t at = bytes.size();
        bytes.resize(at + sizeof(T));
        nbd::store_be(bytes.data() + at, static_cast<std::make_unsigned_t<T>>(value));
        return *this;
    }
    Message& text(std::string_view value) {
        const auto raw = std::as_bytes(std::span(value.data(), value.size()));
        bytes.insert(bytes.end(), raw.begin(), raw.end());
        return *this;
    }
    Message& fill(std::size_t count, int value) {
        bytes.insert(bytes.end(), count, static_cast<std::byte>(value));
        return *this;
    }
    Message& option(nbd::Option option, const Message& data) {
        number(nbd::option_magic).number(static_cast<std::uint32_t>(option));
        number(static_cast<std::uint32_t>(data.bytes.size()));
        bytes.insert(bytes.end(), data.bytes.begin(), data.bytes.end());
        return *this;
    }
    Message& request(nbd::Command command, unsigned flags, std::uint64_t cookie,
                     std::uint64_t offset, std::uint32_t length) {
        number(nbd::request_magic).number(static_cast<std::uint16_t>(flags));
        number(static_cast<std::uint16_t>(command));
        return number(cookie).number(offset).number(length);
    }
};

class RawClient {
  public:
    explicit RawClient(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        connect(reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    /// Over TCP on this machine; `from` is any address in 127/8.
    RawClient(const char* from, std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        REQUIRE(::inet_pton(AF_INET, from, &address.sin_addr) == 1);
        REQUIRE(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                0);
        address.sin_port = nbd::big_endian(port);
        address.sin_addr.s_addr = nbd::big_endian(std::uint32_t{INADDR_LOOPBACK});
        connect(reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }

    bool send(const Message& message) { return send(message.bytes); }
    bool send(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) {
                return false;
            }
            bytes = bytes.subspan(static_cast<std::size_t>(sent));
        }
        return true;
    }
    /// Exactly `count` bytes; fewer when the server closed before.
    Bytes receive(std::size_t count) {
        Bytes bytes(count);
        std::size_t have = 0;
        while (have < count) {
            const ssize_t got = ::recv(fd_.get(), bytes.data() + have, count - have, 0);
            if (got <= 0) {
                break;
            }
            have += static_cast<std::size_t>(got);
        }
        bytes.resize(have);
        return bytes;
    }
    template <typename T>
    T number() {
        const Bytes bytes = receive(sizeof(T));
        REQUIRE(bytes.size() == sizeof(T));
        return nbd::load_be<T>(bytes.data());
    }
    /// Whether the server ends the connection, whatever it sends before; false after 20 s.
    bool is_closed() {
        char byte = 0;
        ssize_t got = 0;
        while ((got = ::recv(fd_.get(), &byte, 1, 0)) > 0) {
        }
        return got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }

    void greet(std::uint32_t flags = 3) {
        REQUIRE(receive(18).size() == 18);
        REQUIRE(send(Message().number(flags)));
    }
    struct Reply {
        nbd::OptionReply type;
        Bytes data;
    };
    Reply option_reply() {
        REQUIRE(number<std::uint64_t>() == nbd::option_reply_magic);
        (void)number<std::uint32_t>();
        const auto type = static_cast<nbd::OptionReply>(number<std::uint32_t>());
        const auto length = number<std::uint32_t>();
        return {type, receive(length)};
    }
    /// The last reply to an option.
    Reply ask(nbd::Option option, const Message& data) {
        REQUIRE(send(Message().option(option, data)));
        for (;;) {
            Reply reply = option_reply();
            if (reply.type == nbd::OptionReply::ack ||
                static_cast<std::uint32_t>(reply.type) >= 0x80000000U) {
                return reply;
            }
        }
    }
    static Message named(std::string_view name) {
        Message data;
        data.number(static_cast<std::uint32_t>(name.size())).text(name);
        return data.number(std::uint16_t{0});
    }
    void open(std::string_view name = "disk") {
        greet();
        REQUIRE(ask(nbd::Option::go, named(name)).type == nbd::OptionReply::ack);
    }
    struct Answer {
        std::uint32_t error;
        std::uint64_t cookie;
    };
    Answer answer() {
        REQUIRE(number<std::uint32_t>() == nbd::simple_reply_magic);
        const auto error = number<std::uint32_t>();
        return {error, number<std::uint64_t>()};
    }

    void close() { fd_.reset(); }

  private:
    void connect(const sockaddr* address, socklen_t length) {
        REQUIRE(::connect(fd_.get(), address, length) == 0);
        const timeval most{.tv_sec = 20, .tv_usec = 0};
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    }

    Fd fd_;
};

}  // namespace mirror::test
