// SPDX-License-Identifier: BSD-3-Clause
// A link and a peer that does not answer for long: whether it works, and for how long that counts.
#include <atomic>
#include <chrono>
#include <future>

#include <doctest/doctest.h>

#include "core/nbd/link.hpp"
#include "core/nbd/peer_progress.hpp"
#include "tests/unit/nbd_peer.hpp"

using namespace mirror;
using namespace mirror::nbd;
using namespace mirror::test;
using namespace std::chrono_literals;

namespace {

using Bytes = std::vector<std::byte>;

class Signs final : public SignsOfLife {
  public:
    void look() override { ++looks; }
    [[nodiscard]] SteadyTime last_progress(std::size_t lane) const noexcept override {
        if (lane != 3) {
            return {};
        }
        return works ? std::chrono::steady_clock::now() : last.load();
    }
    void stop() {
        last = std::chrono::steady_clock::now();
        works = false;
    }

    std::atomic<int> looks{0};
    std::atomic<bool> works{true};
    std::atomic<SteadyTime> last{};
};

constexpr auto deadline = 400ms;

LinkOptions options_with(std::chrono::milliseconds patience) {
    return {.connect_timeout = 10s,
            .deadline = deadline,
            .patience = patience,
            .heartbeat = false,
            .peer_name = "beta"};
}

std::unique_ptr<Link> must_connect(const Address& address, const LinkOptions& options) {
    auto link = Link::connect(address, "", options);
    REQUIRE_MESSAGE(link, link.error().text());
    return std::move(*link);
}

/// A peer that takes everything and answers nothing.
class MutePeer {
  public:
    MutePeer()
        : server_([done = over_.get_future().share()](Fd& connection) {
              grant_export(connection.get(), 64 * MiB);
              done.wait();
          }) {}
    ~MutePeer() { over_.set_value(); }
    MutePeer(const MutePeer&) = delete;
    MutePeer& operator=(const MutePeer&) = delete;
    [[nodiscard]] Address address() const { return server_.address(); }

  private:
    std::promise<void> over_;
    RawServer server_;
};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

SteadyTime now() {
    return std::chrono::steady_clock::now();
}

}  // namespace

TEST_CASE("a peer that works through its queue is waited for beyond the deadline") {
    const Nbdkit server({"--filter=delay", "memory", "64M", "delay-zero=2"});
    Signs signs;
    const auto link = must_connect(server.address(), options_with(60s));
    link->believe(signs, 3);
    const auto began = now();
    CHECK(link->zero({0, MiB}, Space::may_free, false));
    CHECK(now() - began >= 2s);
    CHECK(signs.looks >= 2);
    CHECK_FALSE(link->is_lost());
}

TEST_CASE("a peer whose work stands still is given up a deadline after it last got on") {
    const MutePeer peer;
    Signs signs;
    const auto link = must_connect(peer.address(), options_with(60s));
    link->believe(signs, 3);
    std::promise<Result<void>> ended;
    const auto began = now();
    link->flush([&](Result<void> result) { ended.set_value(std::move(result)); });
    auto end = ended.get_future();
    CHECK(end.wait_for(3 * deadline) == std::future_status::timeout);
    signs.stop();
    const Result<void> result = end.get();
    CHECK(now() - signs.last.load() >= deadline);
    CHECK(now() - began >= 4 * deadline);
    CHECK(now() - signs.last.load() < deadline + 3s);
    CHECK(result.error().kind == ErrorKind::timed_out);
    CHECK(contains(result.error().message, "its disk made no progress for 400 ms"));
}

TEST_CASE("a peer of which nothing is known is silent, however another lane gets on") {
    const MutePeer peer;
    Signs signs;
    const auto link = must_connect(peer.address(), options_with(60s));
    link->believe(signs, 2);
    const auto began = now();
    const Error error = link->flush().error();
    CHECK(now() - began >= deadline);
    CHECK(now() - began < deadline + 3s);
    CHECK(error.message == "beta: no answer for 400 ms");
}

TEST_CASE("work alone is not enough for ever") {
    const MutePeer peer;
    Signs signs;
    const auto link = must_connect(peer.address(), options_with(1200ms));
    link->believe(signs, 3);
    const auto began = now();
    const Error error = link->flush().error();
    CHECK(now() - began >= 1200ms);
    CHECK(now() - began < 5s);
    CHECK(error.kind == ErrorKind::timed_out);
    CHECK(contains(error.message, "although its disk was working"));
}

TEST_CASE("nobody looks for signs while answers come at once, or while nothing is asked") {
    const Nbdkit server({"memory", "1M"});
    Signs signs;
    const auto link = must_connect(
        server.address(),
        {.connect_timeout = 10s, .deadline = 60s, .heartbeat = false, .peer_name = "beta"});
    link->believe(signs, 3);
    const Bytes block(4096);
    for (int i = 0; i < 1000; ++i) {
        REQUIRE(link->write(block, 0, false));
    }
    CHECK(signs.looks == 0);
}

TEST_CASE("a peer without the export has no signs, and that is no error") {
    RawServer server([](Fd& connection) {
        send_bytes(connection.get(), "NBDMAGICIHAVEOPT" + big_endian(3, 2));
        (void)receive_bytes(connection.get(), 4);
        for (;;) {
            const std::string head = receive_bytes(connection.get(), 16);
            if (head.size() < 16) {
                return;
            }
            const auto number = [&](std::size_t at) {
                return static_cast<std::size_t>(static_cast<unsigned char>(head[at]));
            };
            (void)receive_bytes(connection.get(), number(14) << 8 | number(15));
            constexpr std::uint64_t unknown = 0x8000'0006;
            send_bytes(connection.get(), big_endian(0x3e889045565a9, 8) + head.substr(8, 4) +
                                             big_endian(unknown, 4) + big_endian(0, 4));
        }
    });
    const auto progress = PeerProgress::connect(server.address(), "r0/frames/progress",
                                                {.connect_timeout = 10s, .peer_name = "beta"});
    REQUIRE_MESSAGE(progress, progress.error().text());
    CHECK(*progress == nullptr);
}

TEST_CASE("a peer that can't be reached is one") {
    RawServer server([](Fd&) {});
    Address closed = server.address();
    closed.tcp.port = 1;
    CHECK_FALSE(PeerProgress::connect(closed, "r0/frames/progress", {.connect_timeout = 10s}));
}
