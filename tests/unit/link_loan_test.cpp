// SPDX-License-Identifier: BSD-3-Clause
// A link whose answers somebody else receives, and commands that are held back to travel together.
#include <cerrno>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "core/nbd/link_batch.hpp"
#include "core/nbd/wire.hpp"
#include "tests/unit/nbd_peer.hpp"

using namespace mirror;
using namespace mirror::nbd;
using namespace mirror::test;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t size = 1 << 20;

/// Answers flushes, one after the other, until the link goes.
void answer_flushes(int connection) {
    for (;;) {
        const std::string request = receive_bytes(connection, Request::wire_size);
        if (request.size() < Request::wire_size || request[7] != 3) {
            return;
        }
        send_bytes(connection,
                   big_endian(simple_reply_magic, 4) + big_endian(0, 4) + request.substr(8, 8));
    }
}

/// Of one flush.
class Answer {
  public:
    explicit Answer(Link& link) {
        link.flush([this](Result<void> result) {
            thread_ = std::this_thread::get_id();
            promise_.set_value(std::move(result));
        });
    }
    [[nodiscard]] bool is_there() const {
        return future_.wait_for(0s) == std::future_status::ready;
    }
    [[nodiscard]] Result<void> wait() const {
        REQUIRE(future_.wait_for(60s) == std::future_status::ready);
        return future_.get();
    }
    [[nodiscard]] std::thread::id thread() const { return thread_; }

  private:
    std::promise<Result<void>> promise_;
    std::shared_future<Result<void>> future_ = promise_.get_future().share();
    std::thread::id thread_;
};

struct Loan {
    explicit Loan(std::function<void(int)> talk, std::chrono::milliseconds deadline = 60s)
        : server([talk = std::move(talk)](Fd& connection) {
              grant_export(connection.get(), size);
              talk(connection.get());
              connection.reset();
          }) {
        auto connected = Link::connect(server.address(), "",
                                       {.connect_timeout = 10s,
                                        .deadline = deadline,
                                        .heartbeat = false,
                                        .peer_name = "beta"});
        REQUIRE_MESSAGE(connected, connected.error().text());
        link = std::move(*connected);
    }
    void lend() { link->lend(poll.get(), &mark); }
    /// Whether the mark is reported.
    bool reports(std::chrono::milliseconds patience) {
        epoll_event event{};
        const int count = ::epoll_wait(poll.get(), &event, 1, static_cast<int>(patience.count()));
        return count == 1 && event.data.ptr == &mark;
    }

    RawServer server;
    const Fd poll{::epoll_create1(EPOLL_CLOEXEC)};
    int mark = 0;
    std::unique_ptr<Link> link;
};

}  // namespace

TEST_CASE("the borrower receives the answers, in his thread, and nobody else does") {
    Loan loan(answer_flushes);
    loan.lend();
    for (int i = 0; i < 3; ++i) {
        const Answer answer(*loan.link);
        REQUIRE(loan.reports(60s));
        CHECK_FALSE(answer.is_there());
        loan.link->receive();
        CHECK(answer.wait());
        CHECK(answer.thread() == std::this_thread::get_id());
    }
}

TEST_CASE("what is taken back the link receives itself") {
    Loan loan(answer_flushes);
    loan.lend();
    loan.link->take_back();
    const Answer answer(*loan.link);
    CHECK(answer.wait());
    CHECK_FALSE(loan.reports(0ms));
    loan.link->receive();  // of no effect
    loan.lend();
    const Answer later(*loan.link);
    REQUIRE(loan.reports(60s));
    loan.link->receive();
    CHECK(later.wait());
}

TEST_CASE("a borrower that does nothing keeps nobody from the deadline") {
    std::promise<void> over;
    Loan loan([done = over.get_future().share()](int) { done.wait(); }, 300ms);
    loan.lend();
    const Answer answer(*loan.link);
    const Result<void> result = answer.wait();
    REQUIRE_FALSE(result);
    CHECK(result.error().kind == ErrorKind::timed_out);
    CHECK_FALSE(loan.reports(0ms));
    over.set_value();
}

TEST_CASE("a link that the peer ends is lost, and leaves the borrower's epoll instance") {
    Loan loan([](int connection) { (void)receive_bytes(connection, Request::wire_size); });
    loan.lend();
    const Answer answer(*loan.link);
    REQUIRE(loan.reports(60s));
    loan.link->receive();
    const Result<void> result = answer.wait();
    REQUIRE_FALSE(result);
    CHECK(result.error().kind == ErrorKind::unreachable);
    CHECK(loan.link->is_lost());
    CHECK_FALSE(loan.reports(0ms));
}

TEST_CASE("the loss is not told, and fails no command, while the borrower is receiving") {
    std::promise<void> over;
    Loan loan([done = over.get_future().share()](int connection) {
        const std::string first = receive_bytes(connection, Request::wire_size);
        send_bytes(connection,
                   big_endian(simple_reply_magic, 4) + big_endian(0, 4) + first.substr(8, 8));
        done.wait();
    });
    loan.lend();
    std::promise<void> inside, leave, told;
    loan.link->on_lost([&](const Error&) { told.set_value(); });
    loan.link->flush([&](const Result<void>&) {
        inside.set_value();
        leave.get_future().wait();  // longer than a completion may: to be caught at it
    });
    const Answer unanswered(*loan.link);
    std::thread borrower([&] {
        REQUIRE(loan.reports(60s));
        loan.link->receive();
    });
    inside.get_future().wait();
    loan.link->lose("it is enough");
    auto heard = told.get_future();
    CHECK(heard.wait_for(300ms) == std::future_status::timeout);
    CHECK_FALSE(unanswered.is_there());
    leave.set_value();
    CHECK(heard.wait_for(60s) == std::future_status::ready);
    CHECK_FALSE(unanswered.wait());
    borrower.join();
    over.set_value();
}

TEST_CASE("the commands of a batch leave at its end, those of others too") {
    std::promise<void> submitted;
    std::promise<ssize_t> early;
    Loan loan([&](int connection) {
        submitted.get_future().wait();
        char byte = 0;
        early.set_value(::recv(connection, &byte, 1, MSG_DONTWAIT | MSG_PEEK));
        answer_flushes(connection);
    });
    auto batch = std::make_unique<LinkBatch>(*loan.link);
    const Answer first(*loan.link), second(*loan.link);
    std::optional<Answer> other;
    std::thread([&] { other.emplace(*loan.link); }).join();
    submitted.set_value();
    CHECK(early.get_future().get() == -1);
    batch.reset();
    CHECK(first.wait());
    CHECK(second.wait());
    CHECK(other->wait());
}
