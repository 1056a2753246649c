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
#include "core/nbd/link.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

/// A client with many requests under way.
class Client {
  public:
    explicit Client(const std::string& socket) {
        auto link = nbd::Link::connect({.unix_path = socket}, "r0", {.deadline = 60s});
        REQUIRE_MESSAGE(link, link.error().text());
        link_ = std::move(*link);
    }
    using Answer = std::shared_ptr<std::promise<Result<void>>>;

    [[nodiscard]] nbd::Link& link() { return *link_; }
    [[nodiscard]] std::future<Result<void>> write(const Bytes& data, std::uint64_t offset,
                                                  bool fua = false) {
        auto answer = std::make_shared<std::promise<Result<void>>>();
        auto future = answer->get_future();
        link_->write(data, offset, fua,
                     [answer](Result<void> result) { answer->set_value(std::move(result)); });
        return future;
    }
    [[nodiscard]] std::future<Result<void>> flush() {
        auto answer = std::make_shared<std::promise<Result<void>>>();
        auto future = answer->get_future();
        link_->flush([answer](Result<void> result) { answer->set_value(std::move(result)); });
        return future;
    }
    [[nodiscard]] Bytes read(ByteRange range) {
        Bytes data(range.length);
        const auto read = link_->read(data, range.offset);
        CHECK_MESSAGE(read, read.error().text());
        return data;
    }

  private:
    std::unique_ptr<nbd::Link> link_;
};

struct Express {
    explicit Express(MirrorPair::Options options = {}) : pair(options) {
        REQUIRE(pair.wait_in_sync());
        auto opened = ExpressDoor::open(pair.volume(), socket);
        REQUIRE_MESSAGE(opened, opened.error().text());
        door = std::move(*opened);
        REQUIRE(door->serve());
        client = std::make_unique<Client>(socket);
    }
    std::uint64_t counted(const char* which) { return pair.status()["express"][which]; }

    MirrorPair pair;
    const TempDir directory;
    const std::string socket = directory.file("s");
    std::unique_ptr<ExpressDoor> door;
    std::unique_ptr<Client> client;
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
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 4; ++i) {
        clients.push_back(std::make_unique<Client>(express.socket));
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
    Client other(express.socket);
    CHECK(other.read({MiB, 4096}) == Bytes(4096));
    CHECK(is_pending(held.front()));
    barrier.open();
    for (auto& answer : held) {
        CHECK(answer.get());
    }
    CHECK(express.pair.equal());
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
    Client other(express.socket);
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
        auto leaving = std::make_unique<Client>(express.socket);
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
