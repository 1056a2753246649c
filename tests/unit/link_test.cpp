// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/link.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <future>
#include <netinet/in.h>
#include <random>
#include <semaphore>
#include <sys/socket.h>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/sync.hpp"
#include "core/nbd/wire.hpp"
#include "tests/unit/nbd_peer.hpp"

using namespace mirror;
using namespace mirror::nbd;
using namespace mirror::test;
using namespace std::chrono_literals;

namespace {

using Bytes = std::vector<std::byte>;

LinkOptions options_with(std::chrono::milliseconds deadline) {
    return {.connect_timeout = 10s, .deadline = deadline, .heartbeat = false, .peer_name = "beta"};
}

std::unique_ptr<Link> must_connect(const Address& address, const LinkOptions& options) {
    Result<std::unique_ptr<Link>> link = Link::connect(address, "", options);
    if (!link) {
        FAIL(link.error().text());
    }
    return std::move(*link);
}

Error connect_error(const Address& address, const std::string& name, const LinkOptions& options) {
    Result<std::unique_ptr<Link>> link = Link::connect(address, name, options);
    REQUIRE_FALSE(link.has_value());
    INFO(link.error().text());
    return link.error();
}

/// Counts what came to an end, and how often each.
class Tally {
  public:
    explicit Tally(std::size_t commands) : calls_(commands) {}

    Link::Completion completion(std::size_t index) {
        return [this, index](const Result<void>& result) {
            MutexLock lock(mutex_);
            ++calls_[index];
            ++ended_;
            if (!result) {
                errors_.push_back(result.error());
            }
            changed_.notify_all();
        };
    }
    [[nodiscard]] bool wait_for_all(std::chrono::seconds patience = 60s) {
        const auto until = std::chrono::steady_clock::now() + patience;
        MutexLock lock(mutex_);
        while (ended_ < calls_.size()) {
            if (changed_.wait_until(lock, until) == std::cv_status::timeout) {
                return false;
            }
        }
        return true;
    }
    [[nodiscard]] std::size_t ended() {
        MutexLock lock(mutex_);
        return ended_;
    }
    [[nodiscard]] std::vector<Error> errors() {
        MutexLock lock(mutex_);
        return errors_;
    }
    [[nodiscard]] bool each_once() {
        MutexLock lock(mutex_);
        return std::all_of(calls_.begin(), calls_.end(), [](int calls) { return calls == 1; });
    }

  private:
    Mutex mutex_;
    CondVar changed_;
    std::vector<int> calls_ GUARDED_BY(mutex_);
    std::size_t ended_ GUARDED_BY(mutex_) = 0;
    std::vector<Error> errors_ GUARDED_BY(mutex_);
};

class Stopwatch {
  public:
    [[nodiscard]] std::chrono::milliseconds elapsed() const {
        return std::chrono::duration_cast<std::chrono::milliseconds>(
            std::chrono::steady_clock::now() - began_);
    }

  private:
    std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("connecting") {
    TEST_CASE("a port where nobody listens is unreachable, and the error names peer and address") {
        RawServer server([](Fd&) {});
        Address closed = server.address();
        closed.tcp.port = 1;
        const Error error = connect_error(closed, "r0", options_with(1s));
        CHECK(error.kind == ErrorKind::unreachable);
        CHECK(error.message == "beta (127.0.0.1:1): cannot connect: Connection refused");
        CHECK(error.os_error == ECONNREFUSED);
    }

    TEST_CASE("a missing Unix socket is unreachable") {
        const Error error = connect_error({.tcp = {}, .unix_path = "/nonexistent/mirrord.sock"},
                                          "control", options_with(1s));
        CHECK(error.kind == ErrorKind::unreachable);
        CHECK(contains(error.message, "beta (/nonexistent/mirrord.sock): cannot connect"));
    }

    TEST_CASE("a name that does not resolve is unreachable") {
        const Error error =
            connect_error({.tcp = {.host = "no such host", .port = 1}}, "r0", options_with(1s));
        CHECK(error.kind == ErrorKind::unreachable);
        CHECK(contains(error.message, "cannot look up 'no such host'"));
    }

    TEST_CASE("a peer that accepts and stays silent holds nobody longer than the timeout") {
        std::promise<void> over;
        RawServer server([done = over.get_future().share()](Fd&) { done.wait(); });
        LinkOptions options = options_with(1s);
        options.connect_timeout = 300ms;
        const Stopwatch watch;
        const Error error = connect_error(server.address(), "r0", options);
        CHECK(watch.elapsed() >= 300ms);
        CHECK(watch.elapsed() < 5s);
        CHECK(error.kind == ErrorKind::timed_out);
        CHECK(error.message == "beta (" + server.address().text() +
                                   "): no answer to the NBD handshake within 300 ms");
        over.set_value();
    }

    TEST_CASE("a peer that falls silent in the middle of the handshake is no different") {
        std::promise<void> over;
        RawServer server([done = over.get_future().share()](Fd& connection) {
            send_bytes(connection.get(), big_endian(init_magic, 8));
            done.wait();
        });
        LinkOptions options = options_with(1s);
        options.connect_timeout = 300ms;
        CHECK(connect_error(server.address(), "r0", options).kind == ErrorKind::timed_out);
        over.set_value();
    }

    TEST_CASE("a server that speaks something else breaks the protocol") {
        RawServer server([](Fd& connection) {
            send_bytes(connection.get(), "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u2\r\n");
        });
        const Error error = connect_error(server.address(), "r0", options_with(1s));
        CHECK(error.kind == ErrorKind::protocol);
        CHECK(contains(error.message, "NBD"));
    }

    TEST_CASE("a server that hangs up in the handshake was not reached") {
        RawServer server([](Fd& connection) { connection.reset(); });
        CHECK(connect_error(server.address(), "r0", options_with(1s)).kind ==
              ErrorKind::unreachable);
    }

    TEST_CASE("a refusal carries the server's own words, without control characters") {
        RawServer server([](Fd& connection) {
            send_bytes(connection.get(), big_endian(init_magic, 8) + big_endian(option_magic, 8) +
                                             big_endian(nbd::handshake_flag::fixed_newstyle |
                                                            nbd::handshake_flag::no_zeroes,
                                                        2));
            std::ignore = receive_bytes(connection.get(), 4);
            const std::string option = receive_bytes(connection.get(), 16);
            const std::string words = "session 1f is over\n\x1b[2J";
            send_bytes(connection.get(),
                       big_endian(option_reply_magic, 8) + option.substr(8, 4) +
                           big_endian(static_cast<std::uint64_t>(OptionReply::err_policy), 4) +
                           big_endian(words.size(), 4) + words);
            std::ignore = receive_bytes(connection.get(), 100);
        });
        const Error error = connect_error(server.address(), "r0@1f", options_with(1s));
        CHECK(error.kind == ErrorKind::refused);
        CHECK(error.message == "beta (" + server.address().text() +
                                   "): refuses the export 'r0@1f': session 1f is over??[2J");
    }
}

TEST_SUITE("with nbdkit" * doctest::skip(!Nbdkit::is_installed())) {
    TEST_CASE("an export that nbdkit does not have is refused") {
        const Nbdkit server(
            {"eval", "get_size=echo 4096", "open=echo EPERM not this one >&2; exit 1"});
        const Error error = connect_error(server.address(), "r7", options_with(5s));
        CHECK(error.kind == ErrorKind::refused);
        CHECK(contains(error.message, "'r7'"));
    }

    TEST_CASE("what was written is read back, zeroed and flushed") {
        const Nbdkit server({"memory", "4M"});
        const auto link = must_connect(server.address(), options_with(20s));
        CHECK(link->export_size() == 4 * MiB);
        const Bytes data(8192, std::byte{7});
        REQUIRE(link->write(data, 4096, true).has_value());
        CHECK(link->bytes_written() == 8192);
        REQUIRE(link->flush().has_value());
        REQUIRE(link->zero({8192, 4096}, Space::keep_allocated, true).has_value());
        REQUIRE(link->zero({0, 4096}, Space::may_free, false).has_value());
        Bytes back(12288, std::byte{1});
        REQUIRE(link->read(back, 0).has_value());
        CHECK(std::all_of(back.begin(), back.begin() + 4096,
                          [](std::byte b) { return b == std::byte{0}; }));
        CHECK(std::all_of(back.begin() + 4096, back.begin() + 8192,
                          [](std::byte b) { return b == std::byte{7}; }));
        CHECK(std::all_of(back.begin() + 8192, back.end(),
                          [](std::byte b) { return b == std::byte{0}; }));
    }

    TEST_CASE("a command that cannot be sent fails alone, once") {
        const Nbdkit server({"memory", "64M"});
        const auto link = must_connect(server.address(), options_with(20s));
        Bytes block(4096);
        const Error outside = link->read(block, 64 * MiB).error();
        CHECK(outside.kind == ErrorKind::invalid);
        CHECK(contains(outside.message, "beta: read of 4096 bytes at 67108864: "));
        CHECK(link->write({}, 0, false).error().kind == ErrorKind::invalid);
        const Bytes huge(33 * MiB);
        CHECK(link->write(huge, 0, false).error().kind == ErrorKind::invalid);
        Tally tally(3);
        link->read(block, 64 * MiB, tally.completion(0));
        link->zero({0, 8 * GiB}, Space::may_free, false, tally.completion(1));
        link->read(block, 0, tally.completion(2));
        REQUIRE(tally.wait_for_all());
        CHECK(tally.each_once());
        CHECK(tally.errors().size() == 2);
        CHECK_FALSE(link->is_lost());
    }

    TEST_CASE("an error of the peer's disk fails one command and keeps the link") {
        TempDir dir;
        const std::string trigger = dir.path() + "/full";
        const Nbdkit server({"--filter=error", "memory", "1M", "error-pwrite=ENOSPC",
                             "error-pwrite-rate=100%", "error-file=" + trigger});
        const auto link = must_connect(server.address(), options_with(20s));
        const Bytes block(4096);
        std::ofstream(trigger).close();
        const Error full = link->write(block, 8192, false).error();
        CHECK(full.kind == ErrorKind::no_space);
        CHECK(full.os_error == ENOSPC);
        CHECK(full.message == "beta: write of 4096 bytes at 8192: No space left on device");
        CHECK(link->bytes_written() == 0);
        std::remove(trigger.c_str());
        CHECK(link->write(block, 8192, false).has_value());
        CHECK_FALSE(link->is_lost());
    }

    TEST_CASE("sixteen threads write and read back at the same time") {
        const Nbdkit server({"memory", "64M"});
        const auto link = must_connect(server.address(), options_with(60s));
        constexpr int threads = 16;
        constexpr int rounds = 2000;
        std::atomic<int> wrong{0};
        std::vector<std::thread> users;
        for (int user = 0; user < threads; ++user) {
            users.emplace_back([&, user] {
                std::mt19937 random(static_cast<unsigned>(user));
                Bytes data(4096);
                Bytes back(4096);
                for (int round = 0; round < rounds; ++round) {
                    // Each thread has blocks of its own.
                    const std::uint64_t block =
                        random() % 1024 * threads + static_cast<unsigned>(user);
                    std::fill(data.begin(), data.end(), static_cast<std::byte>(random()));
                    data[0] = static_cast<std::byte>(user);
                    const bool fine =
                        link->write(data, block * 4096, round % 50 == 0) &&
                        (round % 4 != 0 || (link->read(back, block * 4096) && back == data));
                    wrong += fine ? 0 : 1;
                }
            });
        }
        for (std::thread& user : users) {
            user.join();
        }
        CHECK(wrong == 0);
        CHECK(link->bytes_written() == std::uint64_t{threads} * rounds * 4096);
    }

    TEST_CASE("large writes into a full socket do not deadlock") {
        const Nbdkit server({"memory", "64M"});
        const auto link = must_connect(server.address(), options_with(60s));
        const Bytes large(MiB, std::byte{3});
        const Bytes largest(32 * MiB, std::byte{5});
        server.signal(SIGSTOP);  // so that the socket's buffers are sure to fill up
        Tally tally(20);
        for (std::size_t i = 0; i < 16; ++i) {
            link->write(large, i * MiB, false, tally.completion(i));
        }
        link->write(largest, 32 * MiB, false, tally.completion(16));
        Bytes back(MiB);
        link->read(back, 40 * MiB, tally.completion(17));
        Bytes more(16 * MiB);
        link->read(more, 0, tally.completion(18));
        link->flush(tally.completion(19));
        CHECK(tally.ended() == 0);
        server.signal(SIGCONT);
        REQUIRE(tally.wait_for_all());
        CHECK(tally.each_once());
        CHECK(tally.errors().empty());
        CHECK(link->bytes_written() == 48 * MiB);
        REQUIRE(link->read(back, 63 * MiB).has_value());
        CHECK(back == Bytes(MiB, std::byte{5}));
    }

    TEST_CASE("a server killed under load: each command ends once, with one and the same error") {
        Nbdkit server({"--filter=delay", "memory", "1M", "wdelay=60"});
        const auto link = must_connect(server.address(), options_with(60s));
        std::promise<Error> lost;
        Tally tally(32);
        std::atomic<std::size_t> ended_before{99};
        link->on_lost([&](const Error& error) {
            ended_before = tally.ended();
            lost.set_value(error);
        });
        const Bytes block(4096);
        for (std::size_t i = 0; i < 32; ++i) {
            link->write(block, i * 4096, false, tally.completion(i));
        }
        server.signal(SIGKILL);
        REQUIRE(tally.wait_for_all());
        CHECK(tally.each_once());
        const Error reason = lost.get_future().get();
        CHECK(ended_before == 0);
        CHECK(reason.kind == ErrorKind::unreachable);
        REQUIRE(tally.errors().size() == 32);
        for (const Error& error : tally.errors()) {
            CHECK(error.message == reason.message);
        }
        CHECK(link->is_lost());
        CHECK(link->write(block, 0, false).error().message == reason.message);
        CHECK(link->flush().error().message == reason.message);
    }

    TEST_CASE("a server killed while many threads submit: everything ends once") {
        for (int round = 0; round < 10; ++round) {
            Nbdkit server({"memory", "1M"});
            const auto link = must_connect(server.address(), options_with(60s));
            constexpr std::size_t threads = 8;
            constexpr std::size_t each = 3000;
            Tally tally(threads * each);
            const Bytes block(4096);
            std::vector<std::thread> users;
            for (std::size_t user = 0; user < threads; ++user) {
                users.emplace_back([&, user] {
                    for (std::size_t i = 0; i < each; ++i) {
                        link->write(block, 0, false, tally.completion(user * each + i));
                    }
                });
            }
            while (tally.ended() < 50) {
                std::this_thread::yield();
            }
            server.signal(SIGKILL);
            for (std::thread& user : users) {
                user.join();
            }
            REQUIRE(tally.wait_for_all());
            CHECK(tally.each_once());
        }
    }

    TEST_CASE("a silent server loses the link when the deadline has come") {
        const Nbdkit server({"memory", "1M"});
        const auto link = must_connect(server.address(), options_with(400ms));
        const Bytes block(4096);
        REQUIRE(link->write(block, 0, false).has_value());
        server.signal(SIGSTOP);
        const Stopwatch watch;
        const Error error = link->write(block, 0, false).error();
        CHECK(watch.elapsed() >= 400ms);
        CHECK(watch.elapsed() < 3s);
        CHECK(error.kind == ErrorKind::timed_out);
        CHECK(error.message == "beta: no answer for 400 ms");
        server.signal(SIGCONT);
        CHECK(link->write(block, 0, false).error().message == error.message);
    }

    TEST_CASE("the deadline is the oldest command's, however busy the link is") {
        const Nbdkit server({"--filter=delay", "memory", "1M", "delay-zero=60"});
        const auto link = must_connect(server.address(), options_with(500ms));
        std::promise<Error> lost;
        link->on_lost([&](const Error& error) { lost.set_value(error); });
        Tally tally(1);
        link->zero({0, 4096}, Space::keep_allocated, false, tally.completion(0));
        const Bytes block(4096);
        while (link->write(block, 8192, false).has_value()) {
        }
        REQUIRE(tally.wait_for_all());
        CHECK(lost.get_future().get().kind == ErrorKind::timed_out);
    }

    TEST_CASE("an idle link notices a server that stopped") {
        const Nbdkit server({"memory", "1M"});
        LinkOptions options = options_with(300ms);
        options.heartbeat = true;
        const auto link = must_connect(server.address(), options);
        std::promise<Error> lost;
        link->on_lost([&](const Error& error) { lost.set_value(error); });
        std::future<Error> loss = lost.get_future();
        CHECK(loss.wait_for(1s) == std::future_status::timeout);  // a live one stays
        server.signal(SIGSTOP);
        REQUIRE(loss.wait_for(10s) == std::future_status::ready);
        CHECK(loss.get().message == "beta: no answer for 300 ms");
        server.signal(SIGCONT);
    }

    TEST_CASE("a link with a watch period of its own notices a server that stopped") {
        const Nbdkit server({"memory", "1M"});
        LinkOptions options = options_with(300ms);
        options.heartbeat = true;
        options.watch_period = 100ms;
        const auto link = must_connect(server.address(), options);
        std::promise<Error> lost;
        link->on_lost([&](const Error& error) { lost.set_value(error); });
        std::future<Error> loss = lost.get_future();
        CHECK(loss.wait_for(1s) == std::future_status::timeout);  // a live one stays
        // Each look is answered, though the answer is taken when the next one is due.
        CHECK(std::chrono::steady_clock::now() - link->last_answer() < 400ms);
        server.signal(SIGSTOP);
        REQUIRE(loss.wait_for(10s) == std::future_status::ready);
        CHECK(loss.get().message == "beta: no answer for 300 ms");
        server.signal(SIGCONT);
    }

    TEST_CASE("while a link waits for the next look a command is answered at once, a death seen") {
        Nbdkit server({"memory", "1M"});
        LinkOptions options = options_with(60s);
        options.heartbeat = true;
        options.watch_period = 2s;
        const auto link = must_connect(server.address(), options);
        std::promise<Error> lost;
        link->on_lost([&](const Error& error) { lost.set_value(error); });
        const auto await_look = [&] {
            // The first look follows two seconds after the last answer, and its answer is left
            // where it is for two more.
            std::this_thread::sleep_until(link->last_answer() + 2300ms);
        };
        Bytes block(4096);
        for (int i = 0; i < 2; ++i) {
            await_look();
            const Stopwatch watch;
            REQUIRE(link->read(block, 0));
            CHECK(watch.elapsed() < 1s);
        }
        await_look();
        const Stopwatch watch;
        server.signal(SIGKILL);
        std::future<Error> loss = lost.get_future();
        REQUIRE(loss.wait_for(20s) == std::future_status::ready);
        CHECK(watch.elapsed() < 1s);
        CHECK(loss.get().kind == ErrorKind::unreachable);
    }

    TEST_CASE("a write and the read behind it leave together, and both are waited for") {
        const Nbdkit server({"--threads=1", "memory", "1M"});
        const auto link = must_connect(server.address(), options_with(10s));
        Bytes data(4096, std::byte{7});
        Bytes found(8192);
        REQUIRE(link->exchange(data, found));
        CHECK(std::equal(data.begin(), data.end(), found.begin()));
        Bytes beyond(MiB + 1);
        CHECK_FALSE(link->exchange(data, beyond));
        CHECK_FALSE(link->exchange(beyond, found));
        CHECK(link->exchange(data, found));
    }

    TEST_CASE("an idle link notices a server that died, even without heartbeat") {
        Nbdkit server({"memory", "1M"});
        const auto link = must_connect(server.address(), options_with(60s));
        std::promise<Error> lost;
        link->on_lost([&](const Error& error) { lost.set_value(error); });
        server.signal(SIGKILL);
        std::future<Error> loss = lost.get_future();
        REQUIRE(loss.wait_for(20s) == std::future_status::ready);
        CHECK(loss.get().kind == ErrorKind::unreachable);
        // Who asks late is told at once.
        std::promise<Error> again;
        link->on_lost([&](const Error& error) { again.set_value(error); });
        CHECK(again.get_future().wait_for(0s) == std::future_status::ready);
    }

    TEST_CASE("lose() ends everything at once, with its reason") {
        const Nbdkit server({"--filter=delay", "memory", "1M", "wdelay=60"});
        const auto link = must_connect(server.address(), options_with(60s));
        Tally tally(4);
        const Bytes block(4096);
        for (std::size_t i = 0; i < 4; ++i) {
            link->write(block, 0, false, tally.completion(i));
        }
        link->lose("the session ended");
        CHECK(link->is_lost());
        REQUIRE(tally.wait_for_all(10s));
        CHECK(tally.each_once());
        CHECK(tally.errors()[0].message == "beta: the session ended");
        link->lose("a second reason changes nothing");
        CHECK(link->flush().error().message == "beta: the session ended");
    }

    TEST_CASE("the destructor completes what is outstanding and does not announce a loss") {
        const Nbdkit server({"--filter=delay", "memory", "1M", "wdelay=60"});
        Tally tally(4);
        std::atomic<bool> announced{false};
        const Bytes block(4096);
        {
            const auto link = must_connect(server.address(), options_with(60s));
            link->on_lost([&](const Error&) { announced = true; });
            for (std::size_t i = 0; i < 4; ++i) {
                link->write(block, 0, false, tally.completion(i));
            }
        }
        CHECK(tally.ended() == 4);
        CHECK(tally.errors().size() == 4);
        CHECK_FALSE(announced);
    }

    TEST_CASE("completions may submit the next command") {
        const Nbdkit server({"memory", "1M"});
        const auto link = must_connect(server.address(), options_with(20s));
        const Bytes block(4096);
        std::promise<int> last;
        std::function<void(int)> chain = [&](int left) {
            link->write(block, 0, false, [&, left](const Result<void>& result) {
                if (left == 0 || !result) {
                    last.set_value(left);
                } else {
                    chain(left - 1);
                }
            });
        };
        chain(1000);
        std::future<int> end = last.get_future();
        REQUIRE(end.wait_for(30s) == std::future_status::ready);
        CHECK(end.get() == 0);
    }
}

TEST_SUITE("a peer that misbehaves after the handshake") {
    TEST_CASE("an idle link ends with a clean disconnect") {
        std::promise<std::string> heard;
        {
            RawServer server([&heard](Fd& connection) {
                grant_export(connection.get(), MiB);
                heard.set_value(receive_bytes(connection.get(), nbd::Request::wire_size));
            });
            must_connect(server.address(), options_with(20s)).reset();
        }
        const std::string request = heard.get_future().get();
        REQUIRE(request.size() == nbd::Request::wire_size);
        CHECK(request.substr(6, 2) ==
              big_endian(static_cast<std::uint64_t>(Command::disconnect), 2));
    }

    TEST_CASE("an answer to a write that was not wholly sent is a breach of protocol") {
        RawServer server([](Fd& connection) {
            grant_export(connection.get(), 64 * MiB);
            const std::string request = receive_bytes(connection.get(), nbd::Request::wire_size);
            send_bytes(connection.get(),
                       big_endian(simple_reply_magic, 4) + big_endian(0, 4) + request.substr(8, 8));
        });
        const auto link = must_connect(server.address(), options_with(20s));
        // More than the sockets hold: the buffer is still needed when the answer comes.
        const Bytes data(32 * MiB, std::byte{1});
        CHECK(link->write(data, 0, false).error().kind == ErrorKind::protocol);
        CHECK(link->is_lost());
    }

    TEST_CASE("garbage instead of a reply loses the link as a breach of protocol") {
        RawServer server([](Fd& connection) {
            grant_export(connection.get(), MiB);
            std::ignore = receive_bytes(connection.get(), nbd::Request::wire_size);
            send_bytes(connection.get(), std::string(64, 'x'));
            std::ignore = receive_bytes(connection.get(), 1000);
        });
        const auto link = must_connect(server.address(), options_with(20s));
        Bytes block(512);
        const Error error = link->read(block, 0).error();
        CHECK(error.kind == ErrorKind::protocol);
        CHECK(contains(error.message, "beta: the connection broke: "));
        CHECK(link->is_lost());
    }

    TEST_CASE("an answer to a question that nobody asked loses the link") {
        RawServer server([](Fd& connection) {
            grant_export(connection.get(), MiB);
            std::ignore = receive_bytes(connection.get(), nbd::Request::wire_size);
            send_bytes(connection.get(), big_endian(simple_reply_magic, 4) + big_endian(0, 4) +
                                             big_endian(0x4711471147114711, 8));
            std::ignore = receive_bytes(connection.get(), 1000);
        });
        const auto link = must_connect(server.address(), options_with(20s));
        CHECK(link->flush().error().kind == ErrorKind::protocol);
    }

    TEST_CASE("a reset with a write half sent ends every command") {
        RawServer server([](Fd& connection) {
            grant_export(connection.get(), 64 * MiB);
            std::ignore = receive_bytes(connection.get(), 5000);
            const linger at_once{.l_onoff = 1, .l_linger = 0};
            ::setsockopt(connection.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            connection.reset();
        });
        const auto link = must_connect(server.address(), options_with(20s));
        const Bytes largest(32 * MiB);
        Tally tally(4);
        for (std::size_t i = 0; i < 4; ++i) {
            link->write(largest, 0, false, tally.completion(i));
        }
        REQUIRE(tally.wait_for_all());
        CHECK(tally.each_once());
        CHECK(tally.errors().size() == 4);
        CHECK(tally.errors()[0].kind == ErrorKind::unreachable);
    }

    TEST_CASE("a peer that reads nothing more is given up at the deadline") {
        std::promise<void> over;
        RawServer server([done = over.get_future().share()](Fd& connection) {
            grant_export(connection.get(), 64 * MiB);
            done.wait();
        });
        const auto link = must_connect(server.address(), options_with(400ms));
        const Bytes largest(32 * MiB);
        const Stopwatch watch;
        CHECK(link->write(largest, 0, false).error().kind == ErrorKind::timed_out);
        CHECK(watch.elapsed() < 5s);
        over.set_value();
    }
}
