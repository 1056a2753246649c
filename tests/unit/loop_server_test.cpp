// SPDX-License-Identifier: BSD-3-Clause
// The server with one thread for all clients: what it says, what it bears, and that nobody waits
// for somebody else.
#include "core/nbd/loop_server.hpp"

#include <atomic>
#include <deque>
#include <new>
#include <random>

#include <libnbd.h>

#include "tests/unit/nbd_fixture.hpp"

using namespace mirror;
using namespace mirror::test;
using nbd::Command;

namespace {

/// A disk in memory whose changes are answered when the test says so, or at once.
class SlowDisk final : public nbd::AsyncExport {
  public:
    SlowDisk(MemoryDisk& disk, WorkerPool& pool) : disk_(disk), pool_(pool) {}

    struct Ask final : nbd::AsyncRequest {};

    std::unique_ptr<nbd::AsyncRequest> make_request() override {
        ++made;
        return std::make_unique<Ask>();
    }
    bool read_at_once(std::span<std::byte> into, std::uint64_t offset) override {
        if (!reads_at_once) {
            return false;
        }
        MutexLock lock(disk_.mutex);
        std::memcpy(into.data(), disk_.content.data() + offset, into.size());
        return true;
    }
    bool begin(nbd::AsyncRequest& request) override {
        ++begun;
        if (without_memory) {
            throw std::bad_alloc();
        }
        const bool changes = request.verb != nbd::AsyncRequest::Verb::read;
        if (holds && changes) {
            MutexLock lock(mutex_);
            held_.push_back(&request);
            return false;
        }
        if (in_batches && changes) {
            batch_.push_back(&request);
            return false;
        }
        perform(request);
        if (at_once) {
            return true;
        }
        pool_.run([&request] { request.ready(); });
        return false;
    }
    bool go_on(nbd::AsyncRequest& request) override {
        ++gone_on;
        (void)request;
        return true;
    }
    bool end_batch(nbd::Turn& turn) override {
        while (!batch_.empty()) {
            nbd::AsyncRequest& request = *batch_.front();
            batch_.pop_front();
            const std::uint64_t wait = turn.begin_wait();
            perform(request);
            const bool mine = turn.end_wait(wait);
            request.ready();
            if (!mine) {
                ++taken_over;
                return false;
            }
        }
        return true;
    }
    void answer_all() {
        holds = false;
        std::deque<nbd::AsyncRequest*> held;
        {
            MutexLock lock(mutex_);
            held.swap(held_);
        }
        for (nbd::AsyncRequest* request : held) {
            perform(*request);
            request->ready();
        }
    }
    std::size_t held() {
        MutexLock lock(mutex_);
        return held_.size();
    }

    std::atomic<int> made{0}, begun{0}, gone_on{0}, taken_over{0};
    std::atomic<bool> without_memory{false};
    std::atomic<bool> at_once{false}, holds{false}, in_batches{false}, reads_at_once{true};

  private:
    void perform(nbd::AsyncRequest& request) {
        MemoryExport plain(disk_);
        using Verb = nbd::AsyncRequest::Verb;
        switch (request.verb) {
            case Verb::read:
                request.result = plain.read(request.data, request.range.offset);
                break;
            case Verb::write:
                request.result = plain.write(request.data, request.range.offset);
                break;
            case Verb::zero:
                request.result = plain.zero(request.range, request.space);
                break;
            case Verb::flush:
                request.result = plain.flush();
                break;
            case Verb::extents:
                request.extents = {{request.range, false}};
                break;
        }
    }

    MemoryDisk& disk_;
    WorkerPool& pool_;
    std::deque<nbd::AsyncRequest*> batch_;
    Mutex mutex_;
    std::deque<nbd::AsyncRequest*> held_ GUARDED_BY(mutex_);
};

struct Loop {
    explicit Loop(nbd::LoopServer::Limits limits = {})
        : served(provider.disk, pool), server(provider, served, pool, limits) {
        REQUIRE(pool.start());
        const Result<void> listening = server.listen(socket);
        REQUIRE_MESSAGE(listening, listening.error().text());
        REQUIRE(server.start());
    }
    ~Loop() {
        served.answer_all();
        server.stop();
        pool.stop();
    }

    MemoryProvider provider;
    WorkerPool pool{"test"};
    SlowDisk served;
    const TempDir directory;
    const std::string socket = directory.file("s");
    nbd::LoopServer server;
};

bool works(const std::string& socket) {
    RawClient client(socket);
    client.open();
    return client.send(Message().request(Command::read, 0, 9, 0, 512)) &&
           client.answer().cookie == 9 && client.receive(512).size() == 512;
}

Message write_of(std::uint64_t cookie, std::uint64_t offset, std::uint32_t length, int value) {
    return Message().request(Command::write, 0, cookie, offset, length).fill(length, value);
}

/// Reads of the disk's beginning, with the cookies 0, 1 and on.
Message reads_of(std::uint64_t count, std::uint32_t length) {
    Message reads;
    for (std::uint64_t i = 0; i < count; ++i) {
        reads.request(Command::read, 0, i, 0, length);
    }
    return reads;
}

void fetch_reads(RawClient& client, std::uint64_t count, std::uint32_t length) {
    for (std::uint64_t i = 0; i < count; ++i) {
        REQUIRE(client.answer().cookie == i);
        REQUIRE(client.receive(length).size() == length);
    }
}

}  // namespace

TEST_CASE("requests of one receive are begun together and all answered") {
    Loop loop;
    loop.served.at_once = false;
    RawClient client(loop.socket);
    client.open();
    Message many;
    for (std::uint64_t i = 0; i < 50; ++i) {
        const Message one = write_of(i, i * 4096, 4096, static_cast<int>(i));
        many.bytes.insert(many.bytes.end(), one.bytes.begin(), one.bytes.end());
    }
    REQUIRE(client.send(many));
    std::vector<bool> seen(50);
    for (int i = 0; i < 50; ++i) {
        const RawClient::Answer answer = client.answer();
        CHECK(answer.error == 0);
        REQUIRE(answer.cookie < 50);
        CHECK_FALSE(seen[answer.cookie]);
        seen[answer.cookie] = true;
    }
    CHECK(loop.provider.disk.byte_at(49 * 4096 + 4095) == std::byte{49});
    // They were kept and used again.
    CHECK(loop.served.made <= 50);
    REQUIRE(client.send(many));
    for (int i = 0; i < 50; ++i) {
        CHECK(client.answer().error == 0);
    }
    CHECK(loop.served.made <= 50);
}

TEST_CASE("a request may come in any pieces") {
    Loop loop;
    RawClient client(loop.socket);
    client.open();
    for (const std::uint32_t length : {1U, 4096U, 65536U, 65537U, 400000U, 5000000U}) {
        const Message message = write_of(length, 77, length, static_cast<int>(length % 251));
        std::span<const std::byte> rest(message.bytes);
        std::minstd_rand random(length);
        while (!rest.empty()) {
            const std::size_t part =
                std::min<std::size_t>(rest.size(), length > 100000 ? 100000 : 1 + random() % 3000);
            REQUIRE(client.send(rest.first(part)));
            rest = rest.subspan(part);
        }
        CHECK(client.answer().cookie == length);
        CHECK(loop.provider.disk.byte_at(77 + length - 1) == static_cast<std::byte>(length % 251));
        REQUIRE(client.send(Message().request(Command::read, 0, 1, 77, length)));
        CHECK(client.answer().cookie == 1);
        const Bytes back = client.receive(length);
        CHECK(back == Bytes(length, static_cast<std::byte>(length % 251)));
    }
}

TEST_CASE("reads that have to wait are answered with their data") {
    Loop loop;
    loop.served.reads_at_once = false;
    RawClient client(loop.socket);
    client.open();
    REQUIRE(client.send(write_of(1, 0, 8192, 5)));
    CHECK(client.answer().cookie == 1);
    REQUIRE(client.send(Message().request(Command::read, 0, 2, 4096, 4096)));
    CHECK(client.answer().cookie == 2);
    CHECK(client.receive(4096) == Bytes(4096, std::byte{5}));
}

TEST_CASE("a stock client sees holes, errors and structured replies") {
    Loop loop;
    nbd_handle* const nbd = nbd_create();
    nbd_set_strict_mode(nbd, 0);
    nbd_set_export_name(nbd, "disk");
    nbd_add_meta_context(nbd, "base:allocation");
    REQUIRE(nbd_connect_unix(nbd, loop.socket.c_str()) == 0);
    std::vector<char> data(100000, 'x');
    CHECK(nbd_pwrite(nbd, data.data(), data.size(), 1000, 0) == 0);
    CHECK(nbd_pread(nbd, data.data(), data.size(), 500, 0) == 0);
    CHECK(data[0] == 0);
    CHECK(data[500] == 'x');
    CHECK(nbd_zero(nbd, 4096, 0, 0) == 0);
    CHECK(nbd_trim(nbd, 4096, 0, 0) == 0);
    CHECK(nbd_flush(nbd, 0) == 0);
    const auto count = [](void* user, const char*, std::uint64_t, std::uint32_t*, std::size_t size,
                          int*) {
        *static_cast<std::size_t*>(user) += size / 2;
        return 0;
    };
    std::size_t extents = 0;
    CHECK(nbd_block_status(nbd, 1 << 20, 0, {.callback = count, .user_data = &extents}, 0) == 0);
    CHECK(extents == 1);
    CHECK(nbd_pwrite(nbd, data.data(), 512, 64 * MiB, 0) == -1);
    CHECK(nbd_get_errno() == ENOSPC);
    CHECK(nbd_pread(nbd, data.data(), 512, 64 * MiB, 0) == -1);
    CHECK(nbd_get_errno() == EINVAL);
    loop.provider.disk.fail_writes = true;
    CHECK(nbd_pwrite(nbd, data.data(), 512, 0, 0) == -1);
    CHECK(nbd_get_errno() == ENOSPC);
    CHECK(nbd_shutdown(nbd, 0) == 0);
    nbd_close(nbd);
}

TEST_CASE("what makes no sense ends that connection alone, after what was begun is answered") {
    Loop loop;
    RawClient good(loop.socket);
    good.open();
    for (const bool garbage : {true, false}) {
        RawClient client(loop.socket);
        client.open();
        Message message = write_of(3, 0, 512, 1);
        if (garbage) {
            message.fill(28, 0xee);
        } else {
            message.request(Command::write, 0, 4, 0, 0xffffffffU);
        }
        REQUIRE(client.send(message));
        CHECK(client.answer().cookie == 3);
        CHECK(client.is_closed());
    }
    REQUIRE(good.send(Message().request(Command::flush, 0, 8, 0, 0)));
    CHECK(good.answer().cookie == 8);
}

TEST_CASE("a read of any claimed length takes no memory before it is refused") {
    Loop loop;
    RawClient client(loop.socket);
    client.open();
    REQUIRE(client.send(Message().request(Command::read, 0, 1, 0, 0xffffffffU)));
    CHECK(client.answer().error == EINVAL);
    REQUIRE(client.send(Message().request(static_cast<Command>(77), 0, 2, 0, 0xffffffffU)));
    CHECK(client.answer().error == EINVAL);
    CHECK(loop.served.begun == 0);
}

TEST_CASE("a client has so many requests under way and no more") {
    Loop loop;
    loop.served.holds = true;
    RawClient client(loop.socket);
    client.open();
    Message many;
    for (std::uint64_t i = 0; i < 300; ++i) {
        many.request(Command::trim, 0, i, i * 4096, 4096);
    }
    REQUIRE(client.send(many));
    REQUIRE(eventually([&] { return loop.served.held() == nbd::LoopClient::most_requests; }));
    CHECK(works(loop.socket));
    CHECK(loop.served.held() == nbd::LoopClient::most_requests);
    loop.served.answer_all();
    for (int i = 0; i < 300; ++i) {
        CHECK(client.answer().error == 0);
    }
}

TEST_CASE("a client that fetches no answers holds up nobody") {
    Loop loop;
    RawClient lazy(loop.socket);
    lazy.open();
    REQUIRE(lazy.send(reads_of(64, 1 * MiB)));
    for (int i = 0; i < 20; ++i) {
        CHECK(works(loop.socket));
    }
    fetch_reads(lazy, 64, 1 * MiB);  // it gets all of them when it wants
}

TEST_CASE("requests that waited for room are begun when their answers' way is free at once") {
    Loop loop({.unsent = 10 * KiB});
    loop.served.reads_at_once = false;
    loop.served.at_once = true;
    RawClient client(loop.socket);
    client.open();
    REQUIRE(client.send(reads_of(20, 8 * KiB)));
    fetch_reads(client, 20, 8 * KiB);
}

TEST_CASE("a client that leaves with requests under way is forgotten when they are done") {
    Loop loop;
    loop.served.holds = true;
    {
        RawClient client(loop.socket);
        client.open();
        for (std::uint64_t i = 0; i < 10; ++i) {
            REQUIRE(client.send(write_of(i, i * 4096, 4096, 3)));
        }
        // The last one stays half a request.
        REQUIRE(client.send(Message().request(Command::write, 0, 99, 0, 100000).fill(50000, 1)));
        REQUIRE(eventually([&] { return loop.served.held() == 10; }));
    }
    CHECK(works(loop.socket));
    CHECK(loop.provider.disk.exports >= 1);
    loop.served.answer_all();
    CHECK(eventually([&] { return loop.provider.disk.exports == 0; }));
    CHECK(loop.provider.disk.byte_at(9 * 4096) == std::byte{3});
}

TEST_CASE("the server stops with requests under way, when they are done") {
    auto loop = std::make_unique<Loop>();
    loop->served.holds = true;
    RawClient client(loop->socket);
    client.open();
    REQUIRE(client.send(write_of(1, 0, 4096, 3)));
    REQUIRE(eventually([&] { return loop->served.held() == 1; }));
    RawClient silent(loop->socket);  // in its handshake
    CHECK(silent.receive(18).size() == 18);
    loop.reset();
    CHECK(client.is_closed());
    CHECK(silent.is_closed());
}

TEST_CASE("what waits in the loop's thread costs the loop a moment, and the loop goes on") {
    Loop loop;
    std::atomic<bool> open{false};
    std::atomic<int> inside{0};
    loop.provider.disk.before_write = [&] {
        ++inside;
        while (!open) {
            std::this_thread::yield();
        }
    };
    loop.served.in_batches = true;
    RawClient client(loop.socket);
    client.open();
    for (std::uint64_t i = 0; i < 4; ++i) {
        REQUIRE(client.send(write_of(i, i * 4096, 4096, 3)));
    }
    REQUIRE(eventually([&] { return inside == 4; }));
    CHECK(works(loop.socket));
    open = true;
    for (int i = 0; i < 4; ++i) {
        CHECK(client.answer().error == 0);
    }
    CHECK(eventually([&] { return loop.served.taken_over == 4; }));
    CHECK(works(loop.socket));
}

TEST_CASE("more clients than there are places are turned away") {
    Loop loop({.clients = 2, .kept_for_ours = 0});
    RawClient first(loop.socket), second(loop.socket);
    first.open();
    second.open();
    {
        RawClient third(loop.socket);
        third.greet();
        CHECK(third.ask(nbd::Option::go, RawClient::named("disk")).type != nbd::OptionReply::ack);
    }
    first.close();
    CHECK(eventually([&] {
        RawClient third(loop.socket);
        third.greet();
        return third.ask(nbd::Option::go, RawClient::named("disk")).type == nbd::OptionReply::ack;
    }));
}

TEST_CASE("bytes without sense from many clients leave the server working") {
    Loop loop;
    std::minstd_rand random(5);
    for (int round = 0; round < 60; ++round) {
        RawClient client(loop.socket);
        if (round % 3 != 0) {
            client.open();
        }
        Message message;
        for (unsigned i = 0; i < random() % 20; ++i) {
            message.request(static_cast<Command>(random() % 9), static_cast<unsigned>(random() % 8),
                            random(), random() % (65 * MiB),
                            static_cast<std::uint32_t>(random() % (i % 2 == 0 ? 5000 : 70000)));
            message.fill(random() % 3000, static_cast<int>(random() % 256));
        }
        (void)client.send(message);
    }
    CHECK(works(loop.socket));
}

TEST_CASE("a request for which there is no memory is answered, and the server ends all the same") {
    Loop loop;
    loop.served.reads_at_once = false;
    loop.served.without_memory = true;
    RawClient client(loop.socket);
    client.open();
    REQUIRE(client.send(write_of(7, 0, 4096, 1)));
    const RawClient::Answer refused = client.answer();
    CHECK(refused.cookie == 7);
    CHECK(refused.error != 0);
    REQUIRE(client.send(Message().request(Command::read, 0, 8, 0, 512)));
    CHECK(client.answer().error != 0);
    loop.served.without_memory = false;
    REQUIRE(client.send(write_of(9, 0, 4096, 1)));
    CHECK(client.answer().error == 0);
    loop.server.stop();  // would wait for them without end
}
