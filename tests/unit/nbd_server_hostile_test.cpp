// SPDX-License-Identifier: BSD-3-Clause
// The server against clients that break the rules, stall, or come in thousands: they get an error
// or lose their connection, and a good client beside them notices nothing.
#include <cerrno>
#include <filesystem>
#include <random>
#include <sys/resource.h>

#include <libnbd.h>

#include "tests/unit/nbd_fixture.hpp"

using namespace mirror;
using namespace mirror::test;
using nbd::Command;
using nbd::Option;
using nbd::OptionReply;

namespace {

std::size_t entries_of(const char* directory) {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory)) {
        ++count;
    }
    return count;
}
std::size_t threads() {
    return entries_of("/proc/self/task");
}
std::size_t descriptors() {
    return entries_of("/proc/self/fd");
}

bool works(const std::string& socket) {
    nbd_handle* const nbd = nbd_create();
    nbd_set_export_name(nbd, "disk");
    char byte = 0;
    const bool good = nbd_connect_unix(nbd, socket.c_str()) == 0 &&
                      nbd_pread(nbd, &byte, 1, 0, 0) == 0 && nbd_shutdown(nbd, 0) == 0;
    nbd_close(nbd);
    return good;
}

Message context_query(std::string_view name, std::string_view query) {
    Message data;
    data.number(static_cast<std::uint32_t>(name.size())).text(name);
    data.number(std::uint32_t{1}).number(static_cast<std::uint32_t>(query.size()));
    return data.text(query);
}

}  // namespace

TEST_CASE("options that are wrong, unknown or forbidden are answered, and the next one works") {
    Fixture fixture;
    RawClient client(fixture.socket);
    client.greet();
    const auto type = [&](Option option, const Message& data) {
        return client.ask(option, data).type;
    };
    CHECK(type(static_cast<Option>(77), Message().fill(100, 1)) == OptionReply::err_unsupported);
    CHECK(type(Option::starttls, {}) == OptionReply::err_policy);
    CHECK(type(Option::list, Message().fill(1, 0)) == OptionReply::err_invalid);
    CHECK(type(Option::structured_reply, Message().fill(1, 0)) == OptionReply::err_invalid);
    CHECK(type(Option::go, {}) == OptionReply::err_invalid);
    CHECK(type(Option::go, Message().number(0xffffffffU).fill(8, 0)) == OptionReply::err_invalid);
    CHECK(type(Option::go, RawClient::named("disk").fill(1, 0)) == OptionReply::err_invalid);
    CHECK(type(Option::go, RawClient::named(std::string(5000, 'x'))) == OptionReply::err_invalid);
    CHECK(type(Option::go, RawClient::named("no such")) == OptionReply::err_unknown);
    CHECK(type(Option::info, RawClient::named("secret")) == OptionReply::err_policy);
    CHECK(type(Option::set_meta_context, context_query("disk", "base:allocation")) ==
          OptionReply::err_invalid);
    CHECK(type(Option::structured_reply, {}) == OptionReply::ack);
    CHECK(type(Option::set_meta_context, Message().fill(9, 0xff)) == OptionReply::err_invalid);
    CHECK(type(Option::set_meta_context, context_query("disk", "base:allocation")) ==
          OptionReply::ack);
    CHECK(type(Option::info, RawClient::named("disk")) == OptionReply::ack);
    CHECK(fixture.disk.exports == 1);
    CHECK(type(Option::list, {}) == OptionReply::ack);
    CHECK(type(Option::go, RawClient::named("disk")) == OptionReply::ack);
    CHECK(fixture.disk.exports == 1);
    CHECK(fixture.server.counters().open == 1);
}

TEST_CASE("EXPORT_NAME opens, with and without padding; a wrong name ends the connection") {
    Fixture fixture;
    for (const bool padded : {false, true}) {
        RawClient client(fixture.socket);
        client.greet(padded ? 1 : 3);
        REQUIRE(client.send(Message().option(Option::export_name, Message().text("disk"))));
        CHECK(client.number<std::uint64_t>() == 64 * MiB);
        CHECK((client.number<std::uint16_t>() & nbd::transmission_flag::send_flush) != 0);
        CHECK(client.receive(padded ? 124 : 0).size() == (padded ? 124 : 0));
        REQUIRE(client.send(Message().request(Command::flush, 0, 5, 0, 0)));
        CHECK(client.answer().cookie == 5);
    }
    RawClient client(fixture.socket);
    client.greet();
    REQUIRE(client.send(Message().option(Option::export_name, Message().text("none"))));
    CHECK(client.is_closed());
}

TEST_CASE("a client that cannot be understood is dropped") {
    Fixture fixture;
    RawClient client(fixture.socket);
    SUBCASE("no fixed newstyle") {
        client.greet(0);
    }
    SUBCASE("unknown client flags") {
        client.greet(0x103);
    }
    SUBCASE("garbage for an option") {
        client.greet();
        REQUIRE(client.send(Message().fill(16, 0x55)));
    }
    SUBCASE("an endless option") {
        client.greet();
        REQUIRE(client.send(
            Message().number(nbd::option_magic).number(std::uint32_t{7}).number(0xffffffffU)));
        CHECK(client.option_reply().type == OptionReply::err_too_big);
    }
    SUBCASE("options without end") {
        client.greet();
        Message many;
        for (int i = 0; i < 300; ++i) {
            many.option(Option::list, {});
        }
        (void)client.send(many);
    }
    SUBCASE("abort") {
        client.greet();
        CHECK(client.ask(Option::abort, {}).type == OptionReply::ack);
    }
    SUBCASE("garbage for a request") {
        client.open();
        REQUIRE(client.send(Message().fill(28, 0x55)));
    }
    SUBCASE("a write beyond the largest payload") {
        client.open();
        REQUIRE(client.send(Message().request(Command::write, 0, 1, 0, 32 * MiB + 1)));
    }
    SUBCASE("disconnect") {
        client.open();
        REQUIRE(client.send(Message().request(Command::disconnect, 0, 1, 0, 0)));
    }
    CHECK(client.is_closed());
    CHECK(eventually([&] {
        const auto counters = fixture.server.counters();
        return counters.open + counters.handshaking == 0 && fixture.disk.exports == 0;
    }));
    CHECK(works(fixture.socket));
}

TEST_CASE("requests before garbage or a disconnect in the same batch are applied and answered") {
    Fixture fixture;
    RawClient client(fixture.socket);
    client.open();
    Message burst;
    burst.request(Command::write, nbd::command_flag::fua, 9, 0, 512).fill(512, 3);
    SUBCASE("garbage") {
        burst.fill(28, 0x55);
    }
    SUBCASE("disconnect") {
        burst.request(Command::disconnect, 0, 10, 0, 0);
    }
    REQUIRE(client.send(burst));
    CHECK(client.answer().cookie == 9);
    CHECK(client.is_closed());
    CHECK(fixture.disk.flushes == 1);
}

TEST_CASE("random bytes at any point of a connection harm nobody else") {
    Fixture fixture;
    std::mt19937 random(4711);
    for (int round = 0; round < 200; ++round) {
        RawClient client(fixture.socket);
        const Message go = Message().option(Option::go, RawClient::named("disk"));
        Message message;
        message.number(std::uint32_t{3});
        message.bytes.insert(message.bytes.end(), go.bytes.begin(), go.bytes.end());
        for (int i = 0; i < 4; ++i) {
            message.request(static_cast<Command>(random() % 9), random() % 32, 1,
                            random() % (80 * MiB), random() % 8192);
            message.fill(random() % 600, static_cast<int>(random() % 256));
        }
        const std::size_t intact = random() % message.bytes.size();
        for (std::size_t i = intact; i < message.bytes.size() && i < intact + 64; ++i) {
            message.bytes[i] = static_cast<std::byte>(random());
        }
        (void)client.send(message);
    }
    CHECK(works(fixture.socket));
}

TEST_CASE("a handshake that takes too long is dropped") {
    Fixture fixture({.handshake_timeout = 100ms});
    RawClient silent(fixture.socket), slow(fixture.socket);
    SUBCASE("silent") {
        CHECK(silent.is_closed());
    }
    SUBCASE("byte by byte: the deadline is for the whole, not for each byte") {
        slow.greet();
        const auto begin = std::chrono::steady_clock::now();
        while (slow.send(Message().option(static_cast<Option>(99), {})) &&
               std::chrono::steady_clock::now() < begin + 20s) {
            (void)slow.receive(20);
            ::poll(nullptr, 0, 5);
        }
        CHECK(std::chrono::steady_clock::now() < begin + 20s);
    }
}

TEST_CASE("in transmission idling is fine, stalling within a request or a reply is not") {
    Fixture fixture({.handshake_timeout = 100ms, .stall_timeout = 100ms});
    RawClient idle(fixture.socket), half(fixture.socket), payload(fixture.socket),
        deaf(fixture.socket);
    for (RawClient* client : {&idle, &half, &payload, &deaf}) {
        client->open();
    }
    REQUIRE(half.send(Message().number(nbd::request_magic)));
    REQUIRE(payload.send(Message().request(Command::write, 0, 1, 0, 1 * MiB).fill(300'000, 1)));
    Message reads;
    for (unsigned i = 0; i < 4; ++i) {
        reads.request(Command::read, 0, i, 0, 16 * MiB);
    }
    REQUIRE(deaf.send(reads));
    CHECK(half.is_closed());
    CHECK(payload.is_closed());
    CHECK(eventually([&] { return fixture.server.counters().open == 1; }));
    CHECK(fixture.disk.writes == 0);
    REQUIRE(idle.send(Message().request(Command::flush, 0, 8, 0, 0)));
    CHECK(idle.answer().cookie == 8);
}

TEST_CASE("more exports than allowed are refused with a reason") {
    Fixture fixture({.open = 2, .kept_for_root = 0});
    RawClient first(fixture.socket), second(fixture.socket), third(fixture.socket);
    first.open();
    second.open();
    third.greet();
    const RawClient::Reply reply = third.ask(Option::go, RawClient::named("disk"));
    CHECK(reply.type == OptionReply::err_policy);
    const std::string text(reinterpret_cast<const char*>(reply.data.data()), reply.data.size());
    CHECK(text == "too many connections");
    first.close();
    REQUIRE(eventually([&] { return fixture.server.counters().open == 1; }));
    CHECK(third.ask(Option::go, RawClient::named("disk")).type == OptionReply::ack);
}

TEST_CASE("thousands of half-open connections stay bounded and do not disturb a good client") {
    const std::size_t threads_before = threads();
    const std::size_t descriptors_before = descriptors();
    {
        Fixture fixture({.handshaking = 8});
        nbd_handle* const nbd = nbd_create();
        nbd_set_export_name(nbd, "disk");
        REQUIRE(nbd_connect_unix(nbd, fixture.socket.c_str()) == 0);
        std::size_t most_strangers = 0, most_threads = 0;
        int failures = 0;
        std::vector<std::unique_ptr<RawClient>> strangers;
        for (unsigned i = 0; i < 2000; ++i) {
            strangers.push_back(std::make_unique<RawClient>(fixture.socket));
            if (strangers.size() > 200) {
                strangers.erase(strangers.begin());
            }
            char block[512] = {};
            failures += nbd_pwrite(nbd, block, sizeof block, (i % 1000) * 512, 0) != 0;
            most_strangers = std::max(most_strangers, fixture.server.counters().handshaking);
            most_threads = std::max(most_threads, threads());
        }
        CHECK(failures == 0);
        CHECK(most_strangers <= 8);
        // Accepting, the good client, eight strangers, and those that end: /proc shows them a
        // moment longer, on a busy machine more of them. Without a bound they would be 200.
        CHECK(most_threads <= threads_before + 32);
        REQUIRE(eventually([&] { return fixture.server.counters().accepted == 2001; }));
        CHECK(fixture.server.counters().dropped > 0);
        CHECK(works(fixture.socket));  // the newest gets in while strangers hold every place
        nbd_close(nbd);
        strangers.clear();
        // One that was accepted and has no thread yet counts among the connections only.
        CHECK(eventually([&] {
            const auto counters = fixture.server.counters();
            return counters.open + counters.handshaking == 0 &&
                   threads() == threads_before + 1;  // accepting
        }));
    }
    CHECK(eventually([&] { return threads() == threads_before; }));
    CHECK(descriptors() == descriptors_before);
}

TEST_CASE("out of descriptors, a stranger makes way for the next one without a busy loop") {
    Fixture fixture;
    RawClient stranger(fixture.socket), good(fixture.socket);
    good.open();
    REQUIRE(eventually([&] { return fixture.server.counters().handshaking == 1; }));
    std::vector<Fd> hoard;
    const Fd newcomer(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const rlimit low{.rlim_cur = 64, .rlim_max = before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
    for (int fd = 0; (fd = ::dup(newcomer.get())) >= 0;) {
        hoard.emplace_back(fd);
    }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    fixture.socket.copy(address.sun_path, sizeof address.sun_path - 1);
    CHECK(::connect(newcomer.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    CHECK(stranger.is_closed());
    CHECK(eventually([&] { return fixture.server.counters().accepted == 3; }));
    hoard.clear();
    ::setrlimit(RLIMIT_NOFILE, &before);
    REQUIRE(good.send(Message().request(Command::flush, 0, 1, 0, 0)));
    CHECK(good.answer().cookie == 1);
}

TEST_CASE("an exception in an export ends its connection, not the server") {
    Fixture fixture;
    fixture.disk.throw_on_write = true;
    RawClient client(fixture.socket);
    client.open();
    REQUIRE(client.send(Message().request(Command::write, 0, 1, 0, 512).fill(512, 1)));
    CHECK(client.is_closed());
    CHECK(eventually([&] { return fixture.disk.exports == 0; }));
    CHECK(works(fixture.socket));
}
