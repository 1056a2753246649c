// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/mailbox.hpp"

#include <atomic>
#include <functional>
#include <future>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/control/mailbox_trailer.hpp"
#include "core/nbd/wire.hpp"
#include "tests/unit/nbd_peer.hpp"

using namespace mirror;
using namespace mirror::control;
using namespace mirror::test;
using namespace std::chrono_literals;

namespace {

const nbd::Client local{.address = "unix", .uid = 0, .pid = 1};

Json reply_text(const Mailbox& mailbox) {
    std::vector<std::byte> bytes(mailbox_size);
    REQUIRE(mailbox.read(bytes, 0).has_value());
    return Json::parse(std::string(reinterpret_cast<const char*>(bytes.data())));
}

Json reply_to(Mailbox& mailbox, const std::string& text) {
    REQUIRE(mailbox.write(std::as_bytes(std::span(text)), 0).has_value());
    return reply_text(mailbox);
}

Result<Json> echo(const Json& request, const nbd::Client& client) {
    return Json{{"request", request}, {"from", client.address}};
}

void check_error(const Json& reply, const std::string& kind, const std::string& part) {
    INFO(reply.dump());
    CHECK(reply["ok"] == false);
    CHECK(reply["error"]["kind"] == kind);
    CHECK(reply["error"]["message"].get<std::string>().find(part) != std::string::npos);
    CHECK(reply["error"]["remedy"].is_string());
}

std::uint64_t number(const std::string& bytes, std::size_t at, std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = at; i < at + size; ++i) {
        value = value << 8 | static_cast<unsigned char>(bytes[i]);
    }
    return value;
}

/// The smallest NBD server around an export: one command at a time, until the other side ends.
void serve(
    int connection, nbd::Export& exported,
    const std::function<void(std::size_t)>& on_read = [](std::size_t) {}) {
    grant_export(connection, exported.traits().size);
    while (true) {
        const std::string header = receive_bytes(connection, nbd::Request::wire_size);
        if (header.size() < nbd::Request::wire_size) {
            return;
        }
        const std::uint64_t type = number(header, 6, 2);
        const std::uint64_t offset = number(header, 16, 8);
        const std::uint64_t length = number(header, 24, 4);
        Result<void> done;
        std::string data;
        if (type == static_cast<std::uint64_t>(nbd::Command::write)) {
            const std::string payload = receive_bytes(connection, length);
            done = exported.write(std::as_bytes(std::span(payload)), offset);
        } else if (type == static_cast<std::uint64_t>(nbd::Command::read)) {
            on_read(length);
            data.resize(length);
            done = exported.read(std::as_writable_bytes(std::span(data)), offset);
        } else {
            return;
        }
        const auto error = static_cast<std::uint64_t>(done ? 0 : errno_of(done.error()));
        send_bytes(connection, big_endian(nbd::simple_reply_magic, 4) + big_endian(error, 4) +
                                   header.substr(8, 8) + (done ? data : ""));
    }
}

std::function<void(Fd&)> script(const Handler& handler) {
    return [handler](Fd& connection) {
        const auto exported = make_mailbox_export(handler, local);
        serve(connection.get(), *exported);
    };
}

}  // namespace

TEST_SUITE("mailbox") {
    TEST_CASE("what stands against a refused request is told, where there is more than words") {
        for (const auto& grounds : {std::pair{Ground::who, "who"}, {Ground::state, "state"}}) {
            const auto ground = grounds.first;
            const auto* const word = grounds.second;
            Mailbox mailbox(
                [&](const Json&, const nbd::Client&) -> Result<Json> {
                    return Failure(Error{ErrorKind::refused, "no", "", 0, ground});
                },
                local);
            CHECK(reply_to(mailbox, "{}")["error"]["ground"] == word);
            CHECK(ground_from(word) == ground);
        }
        Mailbox mailbox(
            [](const Json&, const nbd::Client&) -> Result<Json> {
                return fail(ErrorKind::refused, "no");
            },
            local);
        CHECK_FALSE(reply_to(mailbox, "{}")["error"].contains("ground"));
        CHECK(ground_from("something new") == Ground::other);
    }

    TEST_CASE("before the first request it reads as zeroes") {
        const Mailbox mailbox(echo, local);
        std::vector<std::byte> bytes(4096, std::byte{1});
        REQUIRE(mailbox.read(bytes, 0).has_value());
        CHECK(bytes == std::vector<std::byte>(4096));
    }

    TEST_CASE("a request is answered with its body and ok") {
        Mailbox mailbox(echo, local);
        const Json reply = reply_to(mailbox, R"({"request":"version"})");
        CHECK(reply["ok"] == true);
        CHECK(reply["request"]["request"] == "version");
        CHECK(reply["from"] == "unix");
    }

    TEST_CASE("a zero byte ends the request; what follows is padding") {
        Mailbox mailbox(echo, local);
        CHECK(reply_to(mailbox, std::string("{\"a\":1}\0\0\0\0", 11))["request"]["a"] == 1);
    }

    TEST_CASE("a request with a trailer is carried out only as it was sent") {
        int carried_out = 0;
        Mailbox mailbox(
            [&](const Json&, const nbd::Client&) {
                ++carried_out;
                return Json();
            },
            local);
        const std::string good = with_trailer(R"({"request":"version"})", 0);
        CHECK(reply_to(mailbox, good)["ok"] == true);
        CHECK(reply_to(mailbox, good + std::string(20, '\0'))["ok"] == true);
        CHECK(carried_out == 2);
        for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
            std::string bad = good;
            bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
            check_error(reply_to(mailbox, bad), "corrupt", "checksum");
        }
        check_error(reply_to(mailbox, std::string("{}\0garbage", 10)), "corrupt", "checksum");
        check_error(reply_to(mailbox, good.substr(0, good.size() - 1)), "corrupt", "checksum");
        CHECK(carried_out == 2);
    }

    TEST_CASE("a reply's trailer fits that reply to that request alone") {
        Mailbox mailbox(echo, local);
        const std::string request = R"({"a":1})";
        std::ignore = reply_to(mailbox, with_trailer(request, 0));
        std::vector<std::byte> bytes(4096);
        REQUIRE(mailbox.read(bytes, 0));
        const std::uint32_t sum = message_sum(request, 0);
        using Check = control::Message::Check;
        CHECK(split_message(bytes, sum).check == Check::fits);
        CHECK(split_message(bytes, message_sum(R"({"a":2})", 0)).check == Check::wrong);
        const std::size_t size = split_message(bytes, sum).text.size() + message_tail;
        for (std::size_t bit = 0; bit < size * 8; ++bit) {
            auto bad = bytes;
            bad[bit / 8] ^= std::byte{1} << (bit % 8);
            REQUIRE(split_message(bad, sum).check == Check::wrong);
        }
    }

    TEST_CASE("a reply without a body is just ok") {
        Mailbox mailbox([](const Json&, const nbd::Client&) { return Json(); }, local);
        CHECK(reply_to(mailbox, "{}") == Json{{"ok", true}});
    }

    TEST_CASE("a new reply leaves nothing of the old one") {
        Mailbox mailbox(echo, local);
        std::ignore = reply_to(mailbox, Json{{"long", std::string(100'000, 'x')}}.dump());
        CHECK(reply_to(mailbox, R"({"a":1})")["request"] == Json{{"a", 1}});
    }

    TEST_CASE("a handler's error carries kind, message and remedy") {
        Mailbox mailbox(
            [](const Json&, const nbd::Client&) -> Result<Json> {
                return Failure(Error{ErrorKind::refused, "beta is stale", "resync first"});
            },
            local);
        const Json reply = reply_to(mailbox, "{}");
        check_error(reply, "refused", "beta is stale");
        CHECK(reply["error"]["remedy"] == "resync first");
    }

    TEST_CASE("what is no request is answered with an error, and the next one is served") {
        Mailbox mailbox(echo, local);
        check_error(reply_to(mailbox, ""), "invalid", "not JSON");
        check_error(reply_to(mailbox, "{\"a\":"), "invalid", "not JSON");
        check_error(reply_to(mailbox, "{\"a\":\"\xff\xfe\"}"), "invalid", "not JSON");
        check_error(reply_to(mailbox, "[1]"), "invalid", "not a JSON object");
        check_error(reply_to(mailbox, "7"), "invalid", "not a JSON object");
        CHECK(reply_to(mailbox, "{}")["ok"] == true);
    }

    TEST_CASE("nesting is limited, brackets in texts do not count") {
        Mailbox mailbox(echo, local);
        check_error(reply_to(mailbox, std::string(mailbox_size, '[')), "invalid", "nests deeper");
        std::string bomb;
        for (int i = 0; i < 100'000; ++i) {
            bomb += "{\"a\":";
        }
        check_error(reply_to(mailbox, bomb), "invalid", "nests deeper");
        const std::string text = Json{{"a", std::string(1000, '[') + "\\\"{"}}.dump();
        CHECK(reply_to(mailbox, text)["ok"] == true);
        CHECK(reply_to(mailbox, R"({"a":)" + std::string(63, '[') + std::string(63, ']') +
                                    "}")["ok"] == true);
    }

    TEST_CASE("a field of the wrong type does not get past the handler as an exception") {
        Mailbox mailbox(
            [](const Json& request, const nbd::Client&) -> Result<Json> {
                return Json{{"volume", request.at("volume").get<std::string>()}};
            },
            local);
        check_error(reply_to(mailbox, R"({"volume":7})"), "invalid", "type");
        check_error(reply_to(mailbox, "{}"), "invalid", "volume");
        CHECK(reply_to(mailbox, R"({"volume":"r0"})")["volume"] == "r0");
    }

    TEST_CASE("other exceptions, strange bodies and bytes that are no UTF-8 end as replies too") {
        Handler handler = [](const Json& request, const nbd::Client&) -> Result<Json> {
            if (request.contains("throw")) {
                throw std::runtime_error("out of luck");
            }
            if (request.contains("array")) {
                return Json::array();
            }
            if (request.contains("large")) {
                return Json{{"text", std::string(mailbox_size, 'x')}};
            }
            return fail(ErrorKind::io, "/srv/\xff\xfe.img");
        };
        Mailbox mailbox(handler, local);
        check_error(reply_to(mailbox, R"({"throw":1})"), "internal", "out of luck");
        check_error(reply_to(mailbox, R"({"array":1})"), "internal", "not a JSON object");
        check_error(reply_to(mailbox, R"({"large":1})"), "internal", "larger");
        check_error(reply_to(mailbox, "{}"), "io", "/srv/");
    }

    TEST_CASE("only offset 0 takes requests, and only the mailbox is read") {
        Mailbox mailbox(echo, local);
        const std::string text = "{}";
        CHECK(mailbox.write(std::as_bytes(std::span(text)), 1).error().kind == ErrorKind::invalid);
        std::vector<std::byte> bytes(4096);
        CHECK(mailbox.read(bytes, mailbox_size - 4096).has_value());
        CHECK_FALSE(mailbox.read(bytes, mailbox_size - 4095).has_value());
    }
}

TEST_SUITE("mailbox client") {
    TEST_CASE("asks over NBD, again and again") {
        RawServer server(script(echo));
        Result<MailboxClient> client = MailboxClient::connect(server.address(), "beta", 20s);
        REQUIRE(client.has_value());
        for (int i = 0; i < 50; ++i) {
            const Result<Json> reply = client->ask({{"n", i}});
            REQUIRE(reply.has_value());
            CHECK(*reply == Json{{"request", {{"n", i}}}, {"from", "unix"}});
        }
    }

    TEST_CASE("requests and replies of all sizes arrive whole") {
        RawServer server(script(echo));
        Result<MailboxClient> client = MailboxClient::connect(server.address(), "beta", 20s);
        REQUIRE(client.has_value());
        for (const std::size_t size : {65'480U, 65'495U, 65'500U, 65'536U, 70'000U, 1'000'000U}) {
            const Json request{{"text", std::string(size, 'x')}};
            const Result<Json> reply = client->ask(request);
            REQUIRE(reply.has_value());
            CHECK((*reply)["request"] == request);
        }
        const Error error = client->ask({{"text", std::string(mailbox_size, 'x')}}).error();
        CHECK(error.kind == ErrorKind::invalid);
        CHECK(client->ask(Json::object()).has_value());
    }

    TEST_CASE("what is asked at once has the same answers, short and long ones in any order") {
        RawServer server(script(echo));
        Result<MailboxClient> client = MailboxClient::connect(server.address(), "beta", 20s);
        REQUIRE(client.has_value());
        for (const std::size_t size :
             {10U, 8'100U, 8'200U, 50'000U, 10U, 60'000U, 1'000'000U, 1U}) {
            for (int again = 0; again < 2; ++again) {
                const Json request{{"text", std::string(size, 'x')}};
                const Result<Json> reply = client->ask_at_once(request);
                REQUIRE(reply.has_value());
                CHECK((*reply)["request"] == request);
            }
        }
        const Error error = client->ask_at_once({{"text", std::string(mailbox_size, 'x')}}).error();
        CHECK(error.kind == ErrorKind::invalid);
        CHECK(client->ask(Json::object()).has_value());
    }

    TEST_CASE("a long reply is read as a whole the next time, and not with the whole mailbox") {
        std::atomic<std::size_t> most{0};
        std::atomic<int> reads{0};
        RawServer server([&](Fd& connection) {
            const auto exported = make_mailbox_export(echo, local);
            serve(connection.get(), *exported, [&](std::size_t length) {
                most = std::max(most.load(), length);
                ++reads;
            });
        });
        Result<MailboxClient> client = MailboxClient::connect(server.address(), "beta", 20s);
        REQUIRE(client.has_value());
        const Json request{{"text", std::string(20'000, 'x')}};
        REQUIRE(client->ask_at_once(request));
        most = 0;
        reads = 0;
        REQUIRE(client->ask_at_once(request));
        CHECK(reads == 1);
        CHECK(most < 64 * KiB);
    }

    TEST_CASE("a refusal comes back as the error that it was") {
        RawServer server(script([](const Json&, const nbd::Client&) -> Result<Json> {
            return Failure(Error{ErrorKind::busy, "2 clients are connected", "detach them"});
        }));
        const Result<Json> reply = ask_once(server.address(), "beta", Json::object(), 20s);
        REQUIRE_FALSE(reply.has_value());
        CHECK(reply.error().kind == ErrorKind::busy);
        CHECK(reply.error().message == "2 clients are connected");
        CHECK(reply.error().remedy == "detach them");
    }

    TEST_CASE("a request that takes too long times out and names the peer") {
        std::promise<void> over;
        RawServer server(
            script([done = over.get_future().share()](const Json&, const nbd::Client&) {
                done.wait();
                return Json();
            }));
        const Result<Json> reply = ask_once(server.address(), "beta", Json::object(), 300ms);
        over.set_value();
        REQUIRE_FALSE(reply.has_value());
        CHECK(reply.error().kind == ErrorKind::timed_out);
        CHECK(reply.error().message == "beta: no answer for 300 ms");
    }

    TEST_CASE("a peer's reply that is no reply is an error, not a crash") {
        for (const std::string text :
             {"", "nonsense", "[]", "{}", R"({"ok":1})", R"({"ok":false})",
              R"({"ok":false,"error":{"kind":3,"message":[]}})",
              R"({"ok":false,"error":{"kind":"from the future","message":"no"}})"}) {
            CAPTURE(text);
            const std::string checked = with_trailer(text, message_sum("{}", 0));
            class Fixed : public nbd::Export {
              public:
                explicit Fixed(std::string text) : text_(std::move(text)) {}
                [[nodiscard]] nbd::Traits traits() const override { return {.size = mailbox_size}; }
                [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t) override {
                    std::fill(into.begin(), into.end(), std::byte{0});
                    std::memcpy(into.data(), text_.data(), text_.size());
                    return {};
                }
                [[nodiscard]] Result<void> write(std::span<const std::byte>,
                                                 std::uint64_t) override {
                    return {};
                }
                [[nodiscard]] Result<void> zero(ByteRange, Space) override { return {}; }
                [[nodiscard]] Result<void> trim(ByteRange) override { return {}; }
                [[nodiscard]] Result<void> flush() override { return {}; }
                [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange) override {
                    return std::vector<Extent>{};
                }

              private:
                std::string text_;
            };
            for (const std::string& body : {text, checked}) {
                RawServer server([body](Fd& connection) {
                    Fixed fixed(body);
                    serve(connection.get(), fixed);
                });
                const Result<Json> reply = ask_once(server.address(), "beta", Json::object(), 20s);
                REQUIRE_FALSE(reply.has_value());
                CHECK_FALSE(reply.error().message.empty());
            }
        }
    }

    TEST_CASE("nobody there is unreachable") {
        const Result<Json> reply = ask_once({.tcp = {}, .unix_path = "/nonexistent/mirrord.sock"},
                                            "alpha", Json::object(), 1s);
        REQUIRE_FALSE(reply.has_value());
        CHECK(reply.error().kind == ErrorKind::unreachable);
    }
}
