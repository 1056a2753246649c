// SPDX-License-Identifier: BSD-3-Clause
// A framed link and a framed export with a wire between them that flips one bit: whichever it is,
// in whichever direction, nothing false is written and nothing false is believed.
#include <future>

#include "core/base/checksum.hpp"
#include "core/nbd/framed_export.hpp"
#include "core/nbd/link.hpp"
#include "core/nbd/link_frames.hpp"
#include "nbd_fixture.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

enum class Way { there, back };

/// One connection through a pair of pumps. Bits are counted from the last arm().
class Wire {
  public:
    Wire(const std::string& server, const std::string& path) : server_(server) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        ::unlink(path.c_str());
        listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM, 0));
        REQUIRE(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) ==
                0);
        REQUIRE(::listen(listener_.get(), 1) == 0);
        threads_.emplace_back([this] { serve(); });
    }
    ~Wire() {
        ::shutdown(listener_.get(), SHUT_RDWR);
        cut();
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }
    Wire(const Wire&) = delete;
    Wire& operator=(const Wire&) = delete;

    /// What may come back from now on: so many bytes, and none before so many have gone there.
    struct Back {
        std::size_t most = ~std::size_t{0};
        std::size_t after = 0;
    };
    /// Flips the given bit of what passes from now on.
    void arm(Way way, std::size_t bit, Back back) {
        MutexLock lock(mutex_);
        way_ = way;
        bit_ = bit;
        back_ = back;
        passed_ = 0;
        gone_there_ = 0;
        armed_ = true;
    }

  private:
    void serve() {
        client_ = Fd(::accept(listener_.get(), nullptr, nullptr));
        if (!client_.is_open()) {
            return;
        }
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        server_.copy(address.sun_path, sizeof address.sun_path - 1);
        upstream_ = Fd(::socket(AF_UNIX, SOCK_STREAM, 0));
        if (::connect(upstream_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) !=
            0) {
            return;
        }
        std::thread back([this] { pump(upstream_.get(), client_.get(), Way::back); });
        pump(client_.get(), upstream_.get(), Way::there);
        back.join();
    }
    void cut() {
        if (client_.is_open()) {
            ::shutdown(client_.get(), SHUT_RDWR);
        }
        if (upstream_.is_open()) {
            ::shutdown(upstream_.get(), SHUT_RDWR);
        }
    }
    void pump(int from, int to, Way way) {
        Bytes buffer(65536);
        for (;;) {
            const ssize_t got = ::recv(from, buffer.data(), buffer.size(), 0);
            if (got <= 0) {
                break;
            }
            auto count = static_cast<std::size_t>(got);
            {
                MutexLock lock(mutex_);
                while (armed_ && way == Way::back && gone_there_ < back_.after) {
                    has_gone_there_.wait(lock);
                }
                if (armed_ && way == way_) {
                    if (bit_ / 8 >= passed_ && bit_ / 8 < passed_ + count) {
                        buffer[bit_ / 8 - passed_] ^= std::byte{1} << (bit_ % 8);
                    }
                    passed_ += count;
                }
                if (armed_ && way == Way::back) {
                    count = std::min(count, back_.most);
                    back_.most -= count;
                }
            }
            if (::send(to, buffer.data(), count, MSG_NOSIGNAL) < 0) {
                break;
            }
            if (way == Way::there) {
                note_gone_there(count);
            }
        }
        if (way == Way::there) {
            note_gone_there(~std::size_t{0} / 2);  // no more will
        }
        cut();
    }
    void note_gone_there(std::size_t count) {
        MutexLock lock(mutex_);
        gone_there_ += count;
        has_gone_there_.notify_all();
    }

    const std::string server_;
    Fd listener_;
    Fd client_;
    Fd upstream_;
    std::vector<std::thread> threads_;
    Mutex mutex_;
    bool armed_ GUARDED_BY(mutex_) = false;
    Way way_ GUARDED_BY(mutex_) = Way::there;
    std::size_t bit_ GUARDED_BY(mutex_) = 0;
    std::size_t passed_ GUARDED_BY(mutex_) = 0;
    std::size_t gone_there_ GUARDED_BY(mutex_) = 0;
    Back back_ GUARDED_BY(mutex_);
    CondVar has_gone_there_;
};

class FramedProvider final : public nbd::ExportProvider {
  public:
    std::vector<std::string> list(const nbd::Client&) override { return {}; }
    Result<std::unique_ptr<nbd::Export>> open(const std::string&, const nbd::Client&,
                                              std::function<void()>) override {
        return std::make_unique<nbd::FramedExport>(std::make_unique<MemoryExport>(disk),
                                                   [this](const Error&) { ++reports; });
    }
    MemoryDisk disk;
    std::atomic<int> reports{0};
};

struct Framed {
    Framed() {
        provider.disk.traits.size = 1 * MiB;
        REQUIRE(server.listen_unix(directory.file("s"), 0600));
    }
    ~Framed() { server.stop(); }
    std::unique_ptr<nbd::Link> connect(const std::string& socket,
                                       std::chrono::milliseconds deadline) {
        nbd::Address address;
        address.unix_path = directory.file(socket);
        auto link = nbd::Link::connect(address, "r0/frames",
                                       {.connect_timeout = 20s,
                                        .deadline = deadline,
                                        .heartbeat = false,
                                        .framed = true,
                                        .peer_name = "beta"});
        REQUIRE_MESSAGE(link, link.error().text());
        return std::move(*link);
    }
    /// A wire of its own and a link over it, for one flipped bit.
    template <typename Try>
    void with_flip(Way way, std::size_t bit, const Try& attempt, Wire::Back back = {}) {
        Wire wire(directory.file("s"), directory.file("w"));
        const auto link = connect("w", 150ms);
        // So that the next two commands have the numbers 2 and 3: one flipped bit apart.
        (void)link->read({}, 0);
        wire.arm(way, bit, back);
        attempt(*link);
        link->lose("the test is over");
    }
    Bytes content(std::uint64_t offset, std::size_t length) {
        MutexLock lock(provider.disk.mutex);
        const auto from = provider.disk.content.begin() + static_cast<std::ptrdiff_t>(offset);
        return {from, from + static_cast<std::ptrdiff_t>(length)};
    }

    FramedProvider provider;
    nbd::Server server{provider, {}};
    const TempDir directory;
};

Bytes pattern(std::size_t size, int salt) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::byte>(i * 7 + i / 256 + static_cast<std::size_t>(salt));
    }
    return bytes;
}

constexpr std::size_t request = nbd::Request::wire_size;
constexpr std::size_t header = nbd::FrameHeader::wire_size;
constexpr std::size_t reply = nbd::simple_reply_size;

}  // namespace

TEST_CASE("a framed link carries every verb, with data of any size") {
    Framed framed;
    const auto link = framed.connect("s", 20s);
    CHECK(link->export_size() == 1 * MiB);
    std::uint64_t written = 0;
    for (const std::size_t size : {1UL, 512UL, 65536UL, 65537UL, 1000000UL}) {
        for (const bool fua : {false, true}) {
            const int flushes = framed.provider.disk.flushes;
            const Bytes data = pattern(size, fua ? 1 : 2);
            REQUIRE(link->write(data, 7, fua));
            written += size;
            CHECK(framed.content(7, size) == data);
            CHECK(framed.provider.disk.flushes == flushes + (fua ? 1 : 0));
            Bytes back(size);
            REQUIRE(link->read(back, 7));
            CHECK(back == data);
        }
    }
    CHECK(link->bytes_written() == written);
    REQUIRE(link->zero({100, 1000}, Space::may_free, false));
    CHECK(framed.content(100, 1000) == Bytes(1000));
    const int flushes = framed.provider.disk.flushes;
    REQUIRE(link->flush());
    CHECK(framed.provider.disk.flushes == flushes + 1);
    CHECK(framed.provider.reports == 0);
}

TEST_CASE("what cannot be sent is said to the caller, and the link lives") {
    Framed framed;
    const auto link = framed.connect("s", 20s);
    Bytes data(4096);
    CHECK(link->write(data, 1 * MiB - 4095, false).error().kind == ErrorKind::invalid);
    CHECK(link->read(data, 1 * MiB).error().kind == ErrorKind::invalid);
    CHECK(link->zero({0, 0}, Space::may_free, false).error().kind == ErrorKind::invalid);
    CHECK(link->write({}, 0, false).error().kind == ErrorKind::invalid);
    Bytes large(32 * MiB);
    CHECK(link->read(large, 0).error().kind == ErrorKind::invalid);
    CHECK(link->write(data, 0, false));
    CHECK_FALSE(link->is_lost());
}

TEST_CASE("a disk that fails fails the command alone, as on a plain link") {
    Framed framed;
    const auto link = framed.connect("s", 20s);
    framed.provider.disk.fail_writes = true;
    CHECK(link->write(pattern(4096, 1), 0, false).error().kind == ErrorKind::no_space);
    CHECK(link->write(pattern(100000, 1), 0, false).error().kind == ErrorKind::no_space);
    framed.provider.disk.fail_writes = false;
    CHECK(link->write(pattern(4096, 1), 0, false));
    framed.provider.disk.fail_flushes = true;
    CHECK(link->flush().error().kind == ErrorKind::io);
    CHECK_FALSE(link->is_lost());
}

TEST_CASE("writes from many threads keep their order on the wire") {
    Framed framed;
    const auto link = framed.connect("s", 20s);
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (std::size_t t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            for (std::size_t i = 0; i < 300; ++i) {
                const Bytes data = pattern(i % 10 == 0 ? 70000 : 4096, static_cast<int>(i));
                Bytes back(data.size());
                const bool good = link->write(data, t * 128 * KiB, i % 50 == 0).has_value() &&
                                  link->read(back, t * 128 * KiB).has_value() && back == data;
                failures += good ? 0 : 1;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(failures == 0);
    CHECK(framed.provider.reports == 0);
}

TEST_CASE("whichever bit of a write is flipped: it fails, and the disk never holds it wrong") {
    Framed framed;
    const Bytes data = pattern(64, 3);
    const Bytes before(64);
    for (std::size_t bit = 0; bit < (request + header + data.size()) * 8; ++bit) {
        framed.with_flip(Way::there, bit, [&](nbd::Link& link) {
            INFO("bit ", bit);
            REQUIRE_FALSE(link.write(data, 4096, false));
        });
        // A garbled cookie garbles the answer alone: then the write was applied, as it was meant.
        const Bytes now = framed.content(4096, data.size());
        REQUIRE((now == before || now == data));
        {
            MutexLock lock(framed.provider.disk.mutex);
            std::memset(framed.provider.disk.content.data() + 4096, 0, data.size());
            REQUIRE(is_zero(std::span(framed.provider.disk.content).first(1 * MiB)));
        }
    }
    CHECK(framed.provider.reports > 0);
}

TEST_CASE("the same for data that come apart from their frame") {
    Framed framed;
    const Bytes data = pattern(nbd::copied_at_most + 512, 4);
    const std::size_t bits = (2 * request + header + data.size()) * 8;
    for (std::size_t bit = 0; bit < bits; bit += bit < (2 * request + header) * 8 ? 7 : 9973) {
        framed.with_flip(Way::there, bit, [&](nbd::Link& link) {
            INFO("bit ", bit);
            REQUIRE_FALSE(link.write(data, 4096, false));
        });
        MutexLock lock(framed.provider.disk.mutex);
        const std::span<std::byte> place(framed.provider.disk.content.data() + 4096, data.size());
        REQUIRE((is_zero(place) || std::memcmp(place.data(), data.data(), data.size()) == 0));
        std::memset(place.data(), 0, place.size());
    }
}

TEST_CASE("whichever bit of an answer is flipped: nothing that was not answered counts as done") {
    Framed framed;
    SUBCASE("the first of two, the second one's answer being held back") {
        const Bytes data = pattern(512, 5);
        // Both are on their way before the first answer comes, so that it could be either's.
        const Wire::Back back{.most = reply, .after = 2 * (request + header + data.size())};
        for (std::size_t bit = 0; bit < reply * 8; ++bit) {
            framed.with_flip(
                Way::back, bit,
                [&](nbd::Link& link) {
                    std::promise<bool> first;
                    std::promise<bool> second;
                    link.write(data, 0, false, [&](const Result<void>& done) {
                        first.set_value(done.has_value());
                    });
                    link.write(data, 4096, false, [&](const Result<void>& done) {
                        second.set_value(done.has_value());
                    });
                    INFO("bit ", bit);
                    CHECK_FALSE(first.get_future().get());
                    CHECK_FALSE(second.get_future().get());
                },
                back);
        }
    }
    SUBCASE("an error") {
        framed.provider.disk.fail_writes = true;
        for (std::size_t bit = 0; bit < reply * 8; ++bit) {
            framed.with_flip(Way::back, bit, [&](nbd::Link& link) {
                INFO("bit ", bit);
                CHECK_FALSE(link.write(pattern(512, 6), 0, false));
            });
        }
    }
    SUBCASE("a flush that failed") {
        framed.provider.disk.fail_flushes = true;
        for (std::size_t bit = 0; bit < reply * 8; ++bit) {
            framed.with_flip(Way::back, bit, [&](nbd::Link& link) {
                INFO("bit ", bit);
                CHECK_FALSE(link.flush());
            });
        }
    }
}

TEST_CASE("whichever bit of a read is flipped, of the question or of the answer: it fails") {
    Framed framed;
    {
        MutexLock lock(framed.provider.disk.mutex);
        const Bytes data = pattern(1 * MiB, 7);
        std::memcpy(framed.provider.disk.content.data(), data.data(), data.size());
    }
    const auto attempt = [&](nbd::Link& link) {
        Bytes into(64, std::byte{0x55});
        REQUIRE_FALSE(link.read(into, 512));
        CHECK(into == Bytes(64, std::byte{0x55}));
    };
    for (std::size_t bit = 0; bit < request * 8; ++bit) {
        INFO("bit ", bit, " of the question");
        framed.with_flip(Way::there, bit, attempt);
    }
    for (std::size_t bit = 0; bit < (reply + 64 + nbd::trailer_size) * 8; ++bit) {
        INFO("bit ", bit, " of the answer");
        framed.with_flip(Way::back, bit, attempt);
    }
}

TEST_CASE("a garbled frame is said in words, and the link ends with it") {
    Framed framed;
    framed.with_flip(Way::there, (request + header + 10) * 8, [&](nbd::Link& link) {
        const auto done = link.write(pattern(512, 8), 0, false);
        REQUIRE_FALSE(done);
        CHECK(done.error().kind == ErrorKind::corrupt);
        CHECK(done.error().message.find("a bit was flipped") != std::string::npos);
        CHECK(link.is_lost());
    });
    CHECK(framed.provider.reports == 1);
}

TEST_CASE("an export that is not framed is not taken for one") {
    Fixture plain;
    nbd::Address address;
    address.unix_path = plain.socket;
    const auto link = nbd::Link::connect(
        address, "disk", {.connect_timeout = 20s, .framed = true, .peer_name = "beta"});
    REQUIRE_FALSE(link);
    CHECK(link.error().kind == ErrorKind::protocol);
}
