// SPDX-License-Identifier: BSD-3-Clause
// A client's bytes after the handshake, at the server that serves all clients with one thread: in
// pieces, with requests that are answered at once, later or in another order, and a client that
// fetches its answers or does not. The export sees to it that the server keeps what it promises.
#include "core/nbd/loop_client.hpp"

#include <array>
#include <memory>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <vector>

#include "disk_traits.hpp"
#include "input.hpp"

namespace mirror::fuzz {
namespace {

constexpr std::uint64_t disk_size = 128 * KiB;

/// Answers some requests at once, some later, and some need to be gone on with twice.
class LateDisk final : public nbd::AsyncExport {
  public:
    LateDisk(bool read_only, std::uint8_t habits) : read_only_(read_only), habits_(habits) {}

    struct Asked final : nbd::AsyncRequest {
        bool once_more = false;
        bool fails = false;
    };

    std::unique_ptr<nbd::AsyncRequest> make_request() override { return std::make_unique<Asked>(); }
    bool read_at_once(std::span<std::byte> into, std::uint64_t offset) override {
        require(ByteRange{offset, into.size()}.fits_in(disk_size), "reads are within the export");
        if (!habit()) {
            return false;
        }
        std::fill(into.begin(), into.end(), std::byte{'r'});
        return true;
    }
    bool begin(nbd::AsyncRequest& request) override {
        check(request);
        auto& asked = static_cast<Asked&>(request);
        asked.once_more = habit();
        asked.result = habit() ? Result<void>{} : fail(ErrorKind::io, "a bad sector");
        if (asked.verb == nbd::AsyncRequest::Verb::extents) {
            asked.extents = {{{asked.range.offset, asked.range.length / 2 + 1}, true}};
        }
        if (habit()) {
            return true;
        }
        under_way_.push_back(&request);
        bytes_ += request.data.size();
        require(under_way_.size() <= nbd::LoopClient::most_requests, "requests are bounded");
        require(bytes_ <= nbd::LoopClient::most_bytes + disk_size, "their bytes are bounded");
        return false;
    }
    bool go_on(nbd::AsyncRequest& request) override {
        if (std::exchange(static_cast<Asked&>(request).once_more, false)) {
            under_way_.push_back(&request);
            return false;
        }
        bytes_ -= request.data.size();
        return true;
    }
    bool end_batch(nbd::Turn&) override { return true; }

    /// The oldest or the newest says that it is ready; false: none is under way.
    bool bring_one_further() {
        if (under_way_.empty()) {
            return false;
        }
        const auto chosen = habit() ? under_way_.begin() : under_way_.end() - 1;
        nbd::AsyncRequest& request = **chosen;
        under_way_.erase(chosen);
        request.ready();
        return true;
    }

  private:
    bool habit() { return (habits_ >> (turn_++ % 8) & 1U) != 0; }
    void check(const nbd::AsyncRequest& request) const {
        using Verb = nbd::AsyncRequest::Verb;
        require(request.range.fits_in(disk_size), "ranges are within the export");
        const bool has_data = request.verb == Verb::read || request.verb == Verb::write;
        require(request.data.size() == (has_data ? request.range.length : 0),
                "there is a buffer of the range's length");
        if (request.verb == Verb::write || request.verb == Verb::zero) {
            require(!read_only_, "a read-only export is not written");
            require(!request.range.empty(), "changes are of something");
        }
    }

    const bool read_only_;
    const std::uint8_t habits_;
    unsigned turn_ = 0;
    std::vector<nbd::AsyncRequest*> under_way_;
    std::uint64_t bytes_ = 0;
};

/// The server's loop for one client, without waiting for anything.
class Loop {
  public:
    Loop(LateDisk& disk, Fd socket, bool structured, bool allocation, bool read_only,
         std::size_t most_unsent)
        : disk_(disk),
          stock_(disk, queue_),
          client_(std::move(socket), negotiated(structured, allocation, read_only), disk, stock_,
                  most_unsent) {}

    void take(std::uint32_t events) {
        if ((client_.wanted_events() & events & EPOLLIN) != 0) {
            client_.receive();
        }
        settle();
    }
    void bring_one_further() {
        if (disk_.bring_one_further()) {
            take_ready();
            settle();
        }
    }
    void end() {
        client_.end();
        while (disk_.bring_one_further()) {
            take_ready();
        }
        settle();
    }
    void hang_up() { client_.note_hang_up(); }
    [[nodiscard]] const nbd::LoopClient& client() const { return client_; }

  private:
    static nbd::Negotiated negotiated(bool structured, bool allocation, bool read_only) {
        nbd::Negotiated found;
        found.traits = disk_traits(disk_size, read_only);
        found.structured_replies = structured;
        found.allocation = structured && allocation;
        return found;
    }
    void settle() {
        while (client_.settle()) {
            take_ready();
        }
    }
    void take_ready() {
        for (nbd::AsyncRequest* next = queue_.take_all(); next != nullptr;) {
            nbd::AsyncRequest& request = *next;
            next = nbd::ReadyQueue::after(request);
            if (disk_.go_on(request)) {
                client_.answer(request);
            }
        }
    }

    LateDisk& disk_;
    nbd::ReadyQueue queue_;
    nbd::RequestStock stock_;
    nbd::LoopClient client_;
};

class Client {
  public:
    explicit Client(Fd socket) : socket_(std::move(socket)) {}

    void say(Bytes bytes) {
        // What does not fit is lost: another sort of nonsense.
        (void)::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    void say_no_more() { ::shutdown(socket_.get(), SHUT_WR); }
    void listen() {
        std::array<std::byte, 64 * KiB> heard;
        while (::recv(socket_.get(), heard.data(), heard.size(), MSG_DONTWAIT) > 0) {
        }
    }

  private:
    const Fd socket_;
};

}  // namespace

/// What was negotiated and how many answers may wait, in which pieces the rest arrives, the disk's
/// habits, whether the client listens, how many 512 bytes of zeroes behind; then the bytes.
void loop_client(Bytes bytes) {
    Input input(bytes);
    const auto negotiated = input.number<std::uint8_t>();
    const std::size_t piece = input.number<std::uint8_t>();
    LateDisk disk((negotiated & 4U) != 0, input.number<std::uint8_t>());
    const bool listens = input.flag();
    const std::vector<std::byte> zeroes(input.number<std::uint8_t>() * 512UL);

    std::array<int, 2> ends{};
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0, "a socket");
    Client client{Fd(ends[0])};
    Loop loop(disk, Fd(ends[1]), (negotiated & 1U) != 0, (negotiated & 2U) != 0,
              (negotiated & 4U) != 0,
              (negotiated & 8U) != 0 ? 4 * KiB : nbd::LoopClient::usual_unsent);
    const auto feed = [&](Bytes rest) {
        while (!rest.empty() && !loop.client().is_done()) {
            const Bytes part = rest.first(std::min(rest.size(), piece == 0 ? 64 * KiB : piece));
            rest = rest.subspan(part.size());
            client.say(part);
            loop.take(EPOLLIN | EPOLLOUT);
            loop.bring_one_further();
            if (listens) {
                client.listen();
            }
        }
    };
    feed(input.rest());
    feed(zeroes);
    client.say_no_more();
    loop.take(EPOLLIN);
    loop.end();
    for (int tries = 0; !loop.client().is_done() && tries < 10000; ++tries) {
        client.listen();
        loop.take(EPOLLOUT);
    }
    require(loop.client().is_done(), "who has gone is done with");
}

}  // namespace mirror::fuzz
