// SPDX-License-Identifier: BSD-3-Clause
// The server as its clients see it: what it claims, what it does with data, and what one batch of
// requests costs.
#include <cerrno>
#include <cstdio>
#include <random>

#include <libnbd.h>

#include "tests/unit/nbd_fixture.hpp"

using namespace mirror;
using namespace mirror::test;
using nbd::Command;
using nbd::Option;
using nbd::OptionReply;

namespace {

constexpr unsigned fua = nbd::command_flag::fua;

struct Handle {
    nbd_handle* nbd = nbd_create();
    explicit Handle(const std::string& socket, const char* name = "disk") {
        nbd_set_export_name(nbd, name);
        nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION);
        nbd_set_strict_mode(nbd, 0);
        if (!socket.empty()) {
            REQUIRE_MESSAGE(nbd_connect_unix(nbd, socket.c_str()) == 0, nbd_get_error());
        }
    }
    ~Handle() { nbd_close(nbd); }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
};

std::string output_of(const std::string& command, int& status) {
    FILE* pipe = ::popen(command.c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::string text;
    for (int c = 0; (c = std::fgetc(pipe)) != EOF;) {
        text.push_back(static_cast<char>(c));
    }
    status = ::pclose(pipe);
    return text;
}

std::vector<std::uint32_t> collected;
int collect(void*, const char*, std::uint64_t, std::uint32_t* entries, std::size_t count, int*) {
    collected.assign(entries, entries + count);
    return 0;
}
void block_status(nbd_handle* nbd, std::uint64_t length, std::uint32_t flags) {
    collected.clear();
    const nbd_extent_callback callback{.callback = collect};
    REQUIRE_MESSAGE(nbd_block_status(nbd, length, 0, callback, flags) == 0, nbd_get_error());
}

}  // namespace

TEST_CASE("libnbd sees every claim, and none that was not made") {
    Fixture fixture;
    SUBCASE("all of them") {
        Handle handle(fixture.socket);
        CHECK(nbd_get_size(handle.nbd) == 64 * MiB);
        CHECK(nbd_can_flush(handle.nbd) == 1);
        CHECK(nbd_can_fua(handle.nbd) == 1);
        CHECK(nbd_can_trim(handle.nbd) == 1);
        CHECK(nbd_can_zero(handle.nbd) == 1);
        CHECK(nbd_can_multi_conn(handle.nbd) == 1);
        CHECK(nbd_can_df(handle.nbd) == 1);
        CHECK(nbd_can_fast_zero(handle.nbd) == 0);
        CHECK(nbd_is_read_only(handle.nbd) == 0);
        CHECK(nbd_can_meta_context(handle.nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1);
        CHECK(nbd_get_block_size(handle.nbd, LIBNBD_SIZE_MAXIMUM) == 32 * MiB);
    }
    SUBCASE("none") {
        fixture.disk.traits = {.size = 8192, .read_only = true};
        Handle handle(fixture.socket);
        CHECK(nbd_get_size(handle.nbd) == 8192);
        CHECK(nbd_can_flush(handle.nbd) == 0);
        CHECK(nbd_can_fua(handle.nbd) == 0);
        CHECK(nbd_can_trim(handle.nbd) == 0);
        CHECK(nbd_can_zero(handle.nbd) == 0);
        CHECK(nbd_can_multi_conn(handle.nbd) == 0);
        CHECK(nbd_is_read_only(handle.nbd) == 1);
        CHECK(nbd_can_meta_context(handle.nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0);
    }
}

TEST_CASE("a Unix client is known by its credentials, a TCP client by its address") {
    Fixture fixture;
    Handle local(fixture.socket);
    CHECK(fixture.provider.last_client.address == "unix");
    CHECK(fixture.provider.last_client.uid == ::getuid());
    CHECK(fixture.provider.last_client.pid == ::getpid());

    const Result<std::uint16_t> port = fixture.server.listen_tcp({"127.0.0.1", 0});
    REQUIRE(port);
    Handle remote("");
    REQUIRE(nbd_connect_tcp(remote.nbd, "127.0.0.1", std::to_string(*port).c_str()) == 0);
    CHECK(fixture.provider.last_client.address.starts_with("127.0.0.1:"));
    CHECK_FALSE(fixture.provider.last_client.uid);
    CHECK_FALSE(fixture.server.listen_tcp({"127.0.0.1", *port}));
}

TEST_CASE("a server listens on every address of a name that is this machine's") {
    Fixture fixture;
    const auto listening =
        fixture.server.listen_on({"127.0.0.1", "192.0.2.77", "127.0.0.2"}, 0);  // TEST-NET-1
    REQUIRE(listening);
    REQUIRE(listening->bound.size() == 2);
    CHECK(listening->bound[0].port == listening->bound[1].port);
    REQUIRE(listening->failed.size() == 1);
    CHECK(listening->failed[0].message.starts_with("listen on 192.0.2.77:"));
    for (const Endpoint& bound : listening->bound) {
        Handle remote("");
        CHECK(nbd_connect_tcp(remote.nbd, bound.host.c_str(), std::to_string(bound.port).c_str()) ==
              0);
    }
    CHECK_FALSE(fixture.server.listen_on({"127.0.0.3", "127.0.0.2"}, listening->bound[0].port));
    CHECK_FALSE(fixture.server.listen_on({"192.0.2.77"}, 0));
    CHECK_FALSE(fixture.server.listen_on({"no number"}, 0));
}

TEST_CASE("what is written is read back, at every size up to the largest") {
    Fixture fixture;
    for (const bool structured : {true, false}) {
        Handle handle("");
        nbd_set_request_structured_replies(handle.nbd, structured);
        REQUIRE(nbd_connect_unix(handle.nbd, fixture.socket.c_str()) == 0);
        for (const std::size_t size :
             {std::size_t{1}, std::size_t{4096}, 256 * KiB, 256 * KiB + 1, 3 * MiB, 32 * MiB}) {
            CAPTURE(size);
            Bytes out(size), in(size);
            for (std::size_t i = 0; i < size; ++i) {
                out[i] = static_cast<std::byte>((i * 31 + size) >> 3);
            }
            CHECK(nbd_pwrite(handle.nbd, out.data(), size, 12345, 0) == 0);
            CHECK(nbd_pread(handle.nbd, in.data(), size, 12345, 0) == 0);
            CHECK(in == out);
        }
        CHECK(nbd_zero(handle.nbd, 4096, 12345, 0) == 0);
        CHECK(nbd_trim(handle.nbd, 4096, 12345 + 4096, LIBNBD_CMD_FLAG_FUA) == 0);
        Bytes in(8192, std::byte{1});
        CHECK(nbd_pread(handle.nbd, in.data(), in.size(), 12345, 0) == 0);
        CHECK(in == Bytes(8192));
        CHECK(nbd_flush(handle.nbd, 0) == 0);
        CHECK(nbd_shutdown(handle.nbd, 0) == 0);
    }
    CHECK(fixture.disk.flushes == 4);
}

TEST_CASE("requests of all sizes in one stream, cut anywhere, are applied in order") {
    Fixture fixture;
    RawClient client(fixture.socket);
    client.open();
    std::mt19937 random(17);
    Bytes expected(4 * MiB);
    Message stream;
    constexpr unsigned count = 300;
    for (unsigned i = 0; i < count; ++i) {
        // Small ones, ones around a full batch, and some that no buffer is kept for.
        const std::uint64_t sizes[] = {1 + random() % 5000, 200'000 + random() % 70'000,
                                       i % 50 == 0 ? 3'000'000U : 4096U};
        const auto size = static_cast<std::uint32_t>(sizes[random() % 3]);
        const std::size_t offset = random() % (expected.size() - size);
        stream.request(Command::write, 0, i, offset, size).fill(size, static_cast<int>(i % 251));
        std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(offset), size,
                    static_cast<std::byte>(i % 251));
    }
    std::span<const std::byte> rest(stream.bytes);
    while (!rest.empty()) {
        const std::size_t cut = std::min<std::size_t>(rest.size(), 1 + random() % 400'000);
        REQUIRE(client.send(rest.first(cut)));
        rest = rest.subspan(cut);
    }
    for (unsigned i = 0; i < count; ++i) {
        const auto [error, cookie] = client.answer();
        CHECK(error == 0);
        CHECK(cookie == i);
    }
    MutexLock lock(fixture.disk.mutex);
    CHECK(std::equal(expected.begin(), expected.end(), fixture.disk.content.begin()));
}

TEST_CASE("every sort of bad request gets its error, and the connection goes on") {
    Fixture fixture;
    Handle handle(fixture.socket);
    Bytes buffer(8192);
    const auto error = [](int result) { return result == 0 ? 0 : nbd_get_errno(); };
    const auto end = 64 * MiB;
    CHECK(error(nbd_pread(handle.nbd, buffer.data(), 8192, end - 4096, 0)) == EINVAL);
    CHECK(error(nbd_pread(handle.nbd, buffer.data(), 0, 0, 0)) == EINVAL);
    CHECK(error(nbd_pread(handle.nbd, buffer.data(), 512, ~std::uint64_t{0} - 100, 0)) == EINVAL);
    CHECK(error(nbd_pwrite(handle.nbd, buffer.data(), 8192, end - 4096, 0)) == ENOSPC);
    CHECK(error(nbd_pwrite(handle.nbd, buffer.data(), 0, 0, 0)) == EINVAL);
    CHECK(error(nbd_pwrite(handle.nbd, buffer.data(), 512, 0, 1 << 9)) == EINVAL);
    CHECK(error(nbd_zero(handle.nbd, 8192, end - 4096, 0)) == ENOSPC);
    CHECK(error(nbd_zero(handle.nbd, 512, 0, LIBNBD_CMD_FLAG_FAST_ZERO)) == EINVAL);
    CHECK(error(nbd_trim(handle.nbd, 8192, end - 4096, 0)) == EINVAL);
    CHECK(error(nbd_cache(handle.nbd, 512, 0, 0)) == EINVAL);
    CHECK(fixture.disk.writes == 0);

    fixture.disk.fail_reads = true;
    CHECK(error(nbd_pread(handle.nbd, buffer.data(), 512, 0, 0)) == EIO);
    fixture.disk.fail_writes = true;
    CHECK(error(nbd_pwrite(handle.nbd, buffer.data(), 512, 0, 0)) == ENOSPC);
    fixture.disk.fail_reads = false;
    fixture.disk.fail_writes = false;
    CHECK(error(nbd_pread(handle.nbd, buffer.data(), 512, 0, 0)) == 0);
    fixture.disk.fail_flushes = true;
    CHECK(error(nbd_flush(handle.nbd, 0)) == EIO);
    CHECK(error(nbd_pwrite(handle.nbd, buffer.data(), 512, 0, LIBNBD_CMD_FLAG_FUA)) == EIO);
    CHECK(error(nbd_pwrite(handle.nbd, buffer.data(), 512, 0, 0)) == 0);
}

TEST_CASE("a read-only export refuses every change with EPERM") {
    Fixture fixture;
    fixture.disk.traits.read_only = true;
    RawClient client(fixture.socket);
    client.open();
    REQUIRE(client.send(Message().request(Command::write, 0, 1, 0, 512).fill(512, 1)));
    CHECK(client.answer().error == EPERM);
    REQUIRE(client.send(Message().request(Command::trim, 0, 2, 0, 512)));
    CHECK(client.answer().error == EPERM);
    REQUIRE(client.send(Message().request(Command::write_zeroes, 0, 3, 0, 512)));
    CHECK(client.answer().error == EPERM);
    CHECK(fixture.disk.writes == 0);
}

TEST_CASE("block status joins neighbours, stays within the range and within its limit") {
    Fixture fixture;
    Handle handle(fixture.socket);
    constexpr std::uint32_t hole = LIBNBD_STATE_HOLE | LIBNBD_STATE_ZERO;
    fixture.disk.extents = [](ByteRange) {
        return std::vector<Extent>{{{0, 4096}, false},
                                   {{4096, 4096}, false},
                                   {{8192, 4096}, true},
                                   {{12288, 4096}, true},
                                   {{16384, 1 * MiB}, false}};
    };
    block_status(handle.nbd, 32768, 0);
    CHECK(collected == std::vector<std::uint32_t>{8192, 0, 8192, hole, 16384, 0});
    block_status(handle.nbd, 32768, LIBNBD_CMD_FLAG_REQ_ONE);
    CHECK(collected == std::vector<std::uint32_t>{8192, 0});
    block_status(handle.nbd, 4096, LIBNBD_CMD_FLAG_REQ_ONE);
    CHECK(collected == std::vector<std::uint32_t>{4096, 0});

    fixture.disk.extents = [](ByteRange range) {
        std::vector<Extent> extents;
        for (std::uint64_t at = 0; at < range.length; at += 4096) {
            extents.push_back({{at, 4096}, at % 8192 != 0});
        }
        return extents;
    };
    block_status(handle.nbd, 64 * MiB, 0);
    CHECK(collected.size() == 2 * 1024);

    fixture.disk.extents = [](ByteRange) { return std::vector<Extent>{}; };
    const nbd_extent_callback callback{.callback = collect};
    CHECK(nbd_block_status(handle.nbd, 4096, 0, callback, 0) == -1);
}

TEST_CASE("FUA writes that come together share few flushes, and each is durable when answered") {
    Fixture fixture;
    RawClient client(fixture.socket);
    client.open();
    Message burst;
    for (unsigned i = 0; i < 100; ++i) {
        burst.request(Command::write, i % 2 == 0 ? fua : 0, i, i * 512, 512);
        burst.fill(512, static_cast<int>(i));
    }
    REQUIRE(client.send(burst));
    for (unsigned i = 0; i < 100; ++i) {
        const auto [error, cookie] = client.answer();
        CHECK(error == 0);
        CHECK(cookie == i);
        if (i % 2 == 0) {
            CHECK(fixture.disk.writes_at_last_flush > static_cast<int>(i));
        }
    }
    CHECK(fixture.disk.writes == 100);
    CHECK(fixture.disk.flushes >= 1);
    CHECK(fixture.disk.flushes < 10);
    CHECK(fixture.disk.byte_at(99 * 512) == std::byte{99});
}

TEST_CASE("a flush that fails fails the whole batch's flushes and FUA writes, nothing else") {
    Fixture fixture;
    RawClient client(fixture.socket);
    client.open();
    fixture.disk.fail_flushes = true;
    Message burst;
    burst.request(Command::write, fua, 1, 0, 512).fill(512, 1);
    burst.request(Command::write, 0, 2, 512, 512).fill(512, 1);
    burst.request(Command::flush, 0, 3, 0, 0);
    REQUIRE(client.send(burst));
    CHECK(client.answer().error == EIO);
    CHECK(client.answer().error == 0);
    CHECK(client.answer().error == EIO);
}

TEST_CASE("more replies than fit into one send arrive complete and in order") {
    Fixture fixture;
    {
        MutexLock lock(fixture.disk.mutex);
        for (std::size_t i = 0; i < fixture.disk.content.size(); i += 4096) {
            fixture.disk.content[i] = static_cast<std::byte>(i >> 12);
        }
    }
    RawClient client(fixture.socket);
    client.open();
    Message burst;
    for (unsigned i = 0; i < 1000; ++i) {
        burst.request(Command::read, 0, i, i * 4096, 4096);
        burst.request(Command::flush, 0, i, 0, 0);
    }
    REQUIRE(client.send(burst));
    for (unsigned i = 0; i < 1000; ++i) {
        CHECK(client.answer().cookie == i);
        const Bytes data = client.receive(4096);
        REQUIRE(data.size() == 4096);
        CHECK(data[0] == static_cast<std::byte>(i));
        CHECK(client.answer().cookie == i);
    }
}

TEST_CASE("after the shutdown callback nothing is applied, not even what was received before") {
    Fixture fixture;
    std::atomic<bool> reached{false}, go_on{false};
    fixture.disk.before_write = [&] {
        reached = true;
        while (!go_on) {
            std::this_thread::yield();
        }
    };
    RawClient client(fixture.socket);
    client.open();
    Message burst;  // one segment: all three are received when the first one is applied
    for (unsigned i = 0; i < 3; ++i) {
        burst.request(Command::write, 0, i, i * 512, 512).fill(512, 7);
    }
    REQUIRE(client.send(burst));
    REQUIRE(eventually([&] { return reached.load(); }));
    const auto shutdown = fixture.disk.shutdown_callback();
    shutdown();
    CHECK(client.is_closed());
    CHECK(fixture.disk.exports == 1);  // a write is still being applied: the session is not over
    go_on = true;
    REQUIRE(eventually([&] { return fixture.disk.exports == 0; }));
    CHECK(fixture.disk.writes == 1);
    REQUIRE(eventually([&] { return fixture.server.counters().open == 0; }));
    shutdown();  // the connection is gone: nothing happens
}

TEST_CASE("stop ends idle and busy connections, and destroys their exports") {
    Fixture fixture;
    RawClient idle(fixture.socket), stranger(fixture.socket);
    idle.open();
    REQUIRE(fixture.disk.exports == 1);
    fixture.server.stop();
    CHECK(fixture.disk.exports == 0);
    CHECK(idle.is_closed());
    CHECK(stranger.is_closed());
    CHECK_FALSE(std::filesystem::exists(fixture.socket));
    fixture.server.stop();
    CHECK_FALSE(fixture.server.listen_unix(fixture.socket, 0600));
}

TEST_CASE("a dead socket file is replaced, a live one and any other file are not") {
    Fixture fixture;
    CHECK((std::filesystem::status(fixture.socket).permissions() & std::filesystem::perms::mask) ==
          std::filesystem::perms(0600));
    const Result<void> live = fixture.server.listen_unix(fixture.socket, 0600);
    REQUIRE_FALSE(live);
    CHECK(live.error().kind == ErrorKind::busy);

    const std::string dead = fixture.directory.file("dead");
    {
        const Fd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        dead.copy(address.sun_path, sizeof address.sun_path - 1);
        REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    }
    CHECK(fixture.server.listen_unix(dead, 0600));
    RawClient client(dead);
    client.open();

    const std::string file = fixture.directory.file("file");
    std::fclose(std::fopen(file.c_str(), "w"));
    CHECK_FALSE(fixture.server.listen_unix(file, 0600));
    CHECK(std::filesystem::exists(file));
}

TEST_CASE("stock tools read and list the exports") {
    int status = 0;
    if (output_of("command -v nbdinfo nbdcopy qemu-io", status); status != 0) {
        MESSAGE("skipped: nbdinfo, nbdcopy or qemu-io is not installed");
        return;
    }
    Fixture fixture;
    const std::string uri = "'nbd+unix:///disk?socket=" + fixture.socket + "'";
    const std::string info = output_of("nbdinfo --json " + uri, status);
    CHECK(status == 0);
    CHECK(info.find("\"export-size\": 67108864") != std::string::npos);
    CHECK(info.find("a disk in memory") != std::string::npos);
    const std::string list =
        output_of("nbdinfo --list --json 'nbd+unix://?socket=" + fixture.socket + "'", status);
    CHECK(status == 0);
    CHECK(list.find("\"export-name\": \"disk\"") != std::string::npos);

    const std::string file = fixture.directory.file("copy");
    output_of("head -c 67108864 /dev/urandom >" + file + " && nbdcopy --flush " + file + " " + uri +
                  " && qemu-img compare -f raw -F raw " + file + " " + uri,
              status);
    CHECK(status == 0);
    output_of(
        "qemu-io -f raw -c 'write -P 0x5a 1M 3M' -c 'write -z 2M 64k' -c 'discard 3M 1M' "
        "-c flush -c 'read -P 0x5a 1M 1M' -c 'read -P 0 2M 64k' " +
            uri + " 2>&1",
        status);
    CHECK(status == 0);
    CHECK(fixture.disk.byte_at(1 * MiB) == std::byte{0x5a});
}
