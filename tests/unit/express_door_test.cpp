// SPDX-License-Identifier: BSD-3-Clause
// The engine through its express door: the promises of a write hold on the way that waits for
// nothing, and on the way out of it.
#include "core/engine/express_door.hpp"

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/control/mailbox.hpp"
#include "express_client.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

/// The volume's requests in a loop of the test's own, with an eye on the end of each batch.
class WatchedRequests final : public nbd::AsyncExport {
  public:
    WatchedRequests(Volume& volume, WorkerPool& pool) : inner_(volume, pool) {}

    void use_poll(int poll, void* mark) override { inner_.use_poll(poll, mark); }
    void receive() override { inner_.receive(); }
    std::unique_ptr<nbd::AsyncRequest> make_request() override { return inner_.make_request(); }
    bool read_at_once(std::span<std::byte> into, std::uint64_t offset) override {
        return inner_.read_at_once(into, offset);
    }
    bool begin(nbd::AsyncRequest& request) override { return inner_.begin(request); }
    bool go_on(nbd::AsyncRequest& request) override { return inner_.go_on(request); }
    bool end_batch(nbd::Turn& turn) override {
        ++inside;
        const bool still_ours = inner_.end_batch(turn);
        --inside;
        return still_ours;
    }

    std::atomic<int> inside{0};

  private:
    VolumeRequests inner_;
};

class NamedExport final : public nbd::ExportProvider {
  public:
    explicit NamedExport(std::uint64_t size) : size_(size) {}
    std::vector<std::string> list(const nbd::Client&) override { return {}; }
    Result<std::unique_ptr<nbd::Export>> open(const std::string&, const nbd::Client&,
                                              std::function<void()>) override {
        return std::make_unique<Front>(size_);
    }

  private:
    struct Front final : nbd::Export {
        explicit Front(std::uint64_t size) : bytes(size) {}
        nbd::Traits traits() const override {
            return {.size = bytes, .flush = true, .trim = true, .zero = true};
        }
        Result<void> read(std::span<std::byte>, std::uint64_t) override { return {}; }
        Result<void> write(std::span<const std::byte>, std::uint64_t) override { return {}; }
        Result<void> zero(ByteRange, Space) override { return {}; }
        Result<void> trim(ByteRange) override { return {}; }
        Result<void> flush() override { return {}; }
        Result<std::vector<Extent>> extents(ByteRange) override { return std::vector<Extent>{}; }
        const std::uint64_t bytes;
    };
    const std::uint64_t size_;
};

bool is_pending(const std::future<Result<void>>& answer) {
    return answer.wait_for(0s) == std::future_status::timeout;
}

}  // namespace

TEST_CASE("what is written through the express door is on both replicas") {
    Express express;
    const Bytes data = pattern(10000, 1);
    REQUIRE(express.client->link().write(data, MiB - 5000, false));
    CHECK(express.client->read({MiB - 5000, data.size()}) == data);
    CHECK(content(express.pair.beta.disk, {MiB - 5000, data.size()}) == data);
    REQUIRE(express.client->link().zero({MiB, 4096}, Space::may_free, false));
    CHECK(express.client->read({MiB, 4096}) == Bytes(4096));
    const Bytes large = pattern(3 * MiB, 2);
    REQUIRE(express.client->link().write(large, 300, false));
    CHECK(express.client->read({300, large.size()}) == large);
    REQUIRE(express.client->link().flush());
    CHECK(express.pair.equal());
}

TEST_CASE("a write in sync whose region has its intent waits for nothing") {
    Express express;
    REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
    const std::uint64_t pooled = express.counted("pooled_requests");
    const std::uint64_t quick = express.counted("quick_requests");
    for (unsigned i = 0; i < 100; ++i) {
        REQUIRE(express.client->link().write(pattern(4096, i), i * 4096, i % 10 == 0));
    }
    REQUIRE(express.client->link().flush());
    CHECK(express.counted("quick_requests") == quick + 101);
    CHECK(express.counted("pooled_requests") == pooled);
    CHECK(express.pair.equal());
}

TEST_CASE("overlapping writes under way at once end the same on both replicas") {
    Express express;
    std::vector<std::unique_ptr<ExpressClient>> clients;
    for (int i = 0; i < 4; ++i) {
        clients.push_back(std::make_unique<ExpressClient>(express.socket));
    }
    std::minstd_rand random(7);
    std::vector<Bytes> data;
    std::vector<std::future<Result<void>>> answers;
    for (unsigned i = 0; i < 400; ++i) {
        data.push_back(pattern(1 + random() % 20000, i));
    }
    for (std::size_t i = 0; i < data.size(); ++i) {
        answers.push_back(clients[i % clients.size()]->write(data[i], random() % 40000));
    }
    for (auto& answer : answers) {
        CHECK(answer.get());
    }
    CHECK(express.pair.equal());
}

TEST_CASE("FUA and flush through the express door are durable on both replicas when answered") {
    Express express;
    const Bytes data = pattern(40 * KiB, 4);
    for (int round = 0; round < 2; ++round) {  // the first touch of the region, and a quick one
        const std::uint64_t offset = 64 * KiB + static_cast<std::uint64_t>(round) * 128 * KiB;
        REQUIRE(express.client->link().write(data, offset, true));
        for (MemoryDisk* disk : {&express.pair.alpha.disk, &express.pair.beta.disk}) {
            CHECK(content(*durable_image(*disk), {offset, data.size()}) == data);
        }
    }
    REQUIRE(express.client->link().write(data, 512 * KiB, false));
    REQUIRE(express.client->link().flush());
    for (MemoryDisk* disk : {&express.pair.alpha.disk, &express.pair.beta.disk}) {
        CHECK(content(*durable_image(*disk), {512 * KiB, data.size()}) == data);
    }
}

TEST_CASE("requests that wait for durability share the flushes of the local disk") {
    Express express;
    REQUIRE(express.client->link().write(pattern(4096, 1), 0, true));
    const std::uint64_t quick = express.counted("quick_requests");
    Barrier barrier;
    std::atomic<int> flushes{0};
    express.pair.alpha.disk_faults.before_flush([&] {
        ++flushes;
        barrier.wait();
    });
    const Bytes data = pattern(4096, 2);
    std::vector<std::future<Result<void>>> answers;
    answers.push_back(express.client->write(data, 0, true));
    REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
    for (unsigned i = 1; i < 16; ++i) {
        answers.push_back(i % 2 == 0 ? express.client->flush()
                                     : express.client->write(data, i * 4096, true));
    }
    // All of them are under way, behind the flush that had begun before they came.
    REQUIRE(eventually([&] { return express.counted("quick_requests") == quick + 16; }));
    barrier.open();
    for (auto& answer : answers) {
        CHECK(answer.get());
    }
    CHECK(flushes <= 4);
    express.pair.alpha.disk_faults.before_flush({});
    CHECK(express.pair.equal());
}

TEST_CASE("a slow local disk holds up the requests that need it and no others") {
    Express express;
    REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
    Barrier barrier;
    express.pair.alpha.disk_faults.before_write([&] { barrier.wait(); });
    const Bytes data = pattern(4096, 2);
    std::vector<std::future<Result<void>>> held;
    for (unsigned i = 0; i < 8; ++i) {
        held.push_back(express.client->write(data, i * 4096));
    }
    // Each has got as far as the disk: the first one has not stopped those behind it.
    REQUIRE(eventually([&] { return barrier.arrived() == 8; }));
    ExpressClient other(express.socket);
    CHECK(other.read({MiB, 4096}) == Bytes(4096));
    CHECK(is_pending(held.front()));
    barrier.open();
    for (auto& answer : held) {
        CHECK(answer.get());
    }
    CHECK(express.pair.equal());
}

TEST_CASE("with disk_timeout a local disk that hangs never keeps the loop's thread") {
    MirrorPair pair({.disk_timeout = 60s});
    REQUIRE(pair.wait_in_sync());
    REQUIRE(pair.volume().write(pattern(4096, 1), 0, Durability::cached));
    WorkerPool pool("test");
    REQUIRE(pool.start());
    WatchedRequests requests(pair.volume(), pool);
    NamedExport named(pair_size);
    const TempDir directory;
    nbd::LoopServer server(named, requests, pool, {});
    REQUIRE(server.listen(directory.file("s")));
    REQUIRE(server.start());
    Barrier barrier;
    {
        ExpressClient client(directory.file("s"));
        pair.alpha.disk_faults.before_write([&] { barrier.wait(); });
        auto written = client.write(pattern(4096, 2), 0);
        REQUIRE(eventually([&] { return barrier.arrived() == 1; }));
        // The request has got as far as the disk, and the loop goes on without it.
        CHECK(eventually([&] { return requests.inside == 0; }, 10s));
        CHECK(is_pending(written));
        barrier.open();
        CHECK(written.get());
    }
    server.stop();
    pool.stop();
    CHECK(pair.equal());
}

TEST_CASE("a silent standby holds writes of the express door for peer_timeout at most") {
    Express express({.peer_timeout = 500ms});
    REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
    express.pair.server().be_silent(true);
    const Bytes data = pattern(4096, 2);
    std::vector<std::future<Result<void>>> answers;
    for (unsigned i = 0; i < 8; ++i) {
        answers.push_back(express.client->write(data, i * 4096));
    }
    for (auto& answer : answers) {
        CHECK(answer.get());
    }
    // Before the answers: marked as missing there, and the new generation on the disk.
    CHECK(superblock_on(*durable_image(express.pair.alpha.meta)).solo);
    CHECK(express.pair.status()["peer"]["behind_bytes"] >= 8 * 4096);
    express.pair.server().be_silent(false);
    REQUIRE(express.pair.wait_in_sync());
    CHECK(express.pair.equal());
}

TEST_CASE("writes of the express door go on without the standby, and are marked") {
    Express express;
    REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
    express.pair.cut();
    REQUIRE(express.pair.wait_alone());
    REQUIRE(express.client->link().write(pattern(4096, 2), 0, false));
    const std::uint64_t pooled = express.counted("pooled_requests");
    for (unsigned i = 0; i < 16; ++i) {
        REQUIRE(express.client->link().write(pattern(4096, i), i * 4096, false));
    }
    CHECK(express.counted("pooled_requests") == pooled);
    CHECK(express.pair.status()["peer"]["behind_bytes"] >= 16 * 4096);
    CHECK(express.pair.status()["rpo_bytes"] > 0);
    express.pair.restore();
    REQUIRE(express.pair.wait_in_sync());
    CHECK(express.pair.equal());
}

TEST_CASE("with on_peer_loss = stop writes of the express door wait while reads go on") {
    Express express({.on_peer_loss = OnPeerLoss::stop});
    REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
    express.pair.cut();
    REQUIRE(express.pair.wait_alone());
    const Bytes data = pattern(4096, 2);
    std::vector<std::future<Result<void>>> waiting;
    // More than are served at a time by anything but a thread for each.
    for (unsigned i = 0; i < 100; ++i) {
        waiting.push_back(express.client->write(data, i * 4096));
    }
    ExpressClient other(express.socket);
    CHECK(other.read({2 * MiB, 4096}) == Bytes(4096));
    CHECK(is_pending(waiting.front()));
    SUBCASE("until it is back") {
        express.pair.restore();
        for (auto& answer : waiting) {
            CHECK(answer.get());
        }
        REQUIRE(express.pair.wait_in_sync());
        CHECK(express.pair.equal());
    }
    SUBCASE("until the role ends") {
        express.door.reset();
        for (auto& answer : waiting) {
            CHECK_FALSE(answer.get());
        }
    }
}

TEST_CASE("a broken local disk leaves the express door going on from the peer's copy") {
    Express express;
    REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
    express.pair.alpha.disk_faults.fail_writes(Error{ErrorKind::io, "it is broken"});
    const Bytes data = pattern(4096, 2);
    REQUIRE(express.client->link().write(data, 0, false));
    REQUIRE(express.client->link().write(data, 8192, true));
    REQUIRE(express.client->link().flush());
    CHECK(express.client->read({0, 4096}) == data);
    CHECK(content(express.pair.beta.disk, {8192, 4096}) == data);
    CHECK(express.pair.status()["local_failed"] == true);
}

TEST_CASE("held requests of the express door wait, and go on when the engine is let go") {
    Express express;
    REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
    CHECK(express.pair.ask({{"request", "hold"}})["intent_bytes"] == 0);
    const Bytes data = pattern(4096, 2);
    auto waiting = express.client->write(data, 0);
    REQUIRE(eventually([&] { return express.counted("pooled_requests") >= 1; }));
    CHECK(is_pending(waiting));
    (void)express.pair.ask({{"request", "let-go"}});
    CHECK(waiting.get());
    REQUIRE(express.pair.wait_in_sync());
    CHECK(express.pair.equal());
}

TEST_CASE("quiesce counts the clients of the express door, and shuts them out when it is told") {
    Express express;
    CHECK(express.pair.status()["clients"] == 1);
    CHECK_FALSE(express.pair.volume().handle({{"request", "quiesce"}}));
    REQUIRE(express.pair.volume().handle({{"request", "quiesce"}, {"disconnect_clients", true}}));
    CHECK_FALSE(express.client->link().write(pattern(4096, 1), 0, false));
    express.client.reset();
    CHECK(eventually([&] { return express.pair.status()["clients"] == 0; }));
}

TEST_CASE("clients that leave with requests under way leave both replicas alike") {
    Express express;
    for (unsigned round = 0; round < 20; ++round) {
        auto leaving = std::make_unique<ExpressClient>(express.socket);
        std::vector<Bytes> data;
        std::vector<std::future<Result<void>>> answers;
        for (unsigned i = 0; i < 40; ++i) {
            data.push_back(pattern(4096 * (1 + i % 20), round * 100 + i));
        }
        for (unsigned i = 0; i < data.size(); ++i) {
            answers.push_back(leaving->write(data[i], i * 8192));
        }
        leaving->link().lose("it leaves");
        leaving.reset();
    }
    CHECK(eventually([&] { return express.pair.status()["clients"] == 1; }));
    CHECK(express.pair.equal());
}

TEST_CASE("the mailbox at the express door is no client, and neither crowds nor is crowded out") {
    Express express;
    const auto connect = [&] {
        auto mailbox = control::MailboxClient::connect({.unix_path = express.socket}, "r0", 10s);
        REQUIRE_MESSAGE(mailbox, mailbox.error().text());
        return std::move(*mailbox);
    };
    control::MailboxClient mailbox = connect();
    std::vector<std::unique_ptr<ExpressClient>> clients;
    for (int i = 0; i < 63; ++i) {  // as many as there are places for others
        clients.push_back(std::make_unique<ExpressClient>(express.socket));
    }
    for (int i = 0; i < 3; ++i) {
        const auto status = mailbox.ask_at_once({{"request", "status"}});
        REQUIRE_MESSAGE(status, status.error().text());
        CHECK((*status)["clients"] == 64);
        REQUIRE(express.client->link().write(pattern(4096, 1), 0, false));
    }
    CHECK(connect().ask({{"request", "status"}}));
    CHECK_FALSE(mailbox.ask({{"request", "nonsense"}}));
    CHECK(mailbox.ask({{"request", "status"}}));
    // The end of the door ends it, whatever its client does.
    express.client.reset();
    clients.clear();
    express.door.reset();
    CHECK_FALSE(mailbox.ask({{"request", "status"}}));
}
