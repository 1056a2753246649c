// SPDX-License-Identifier: BSD-3-Clause
// A link that is used, plain or framed, with TLS or without, and a peer that answers well, wrongly,
// with nonsense or not at all. As long as the peer behaves, every caller gets what was answered;
// whatever it does, every caller hears once.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <deque>
#include <memory>
#include <optional>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <vector>

#include "core/base/fd.hpp"
#include "core/nbd/link_driver.hpp"
#include "input.hpp"
#include "tls_peer.hpp"

namespace mirror::fuzz {
namespace {

constexpr std::uint64_t volume_size = 256 * KiB;

/// What the peer's volume holds, and a trailer's bytes behind it.
Bytes content() {
    static const std::vector<std::byte> bytes = [] {
        std::vector<std::byte> made(volume_size + nbd::trailer_size);
        for (std::size_t i = 0; i < made.size(); ++i) {
            made[i] = std::byte{static_cast<std::uint8_t>(i * 7 + i / 251)};
        }
        return made;
    }();
    return bytes;
}

/// One call of the link, and what its caller was told.
struct Asked {
    nbd::LinkRequest request;
    std::vector<std::byte> data;
    std::atomic<int> times = 0;
    std::atomic<bool> succeeded = false;
};

/// The peer's end of the connection: takes the link's commands apart and answers them.
class Peer {
  public:
    Peer(Fd socket, std::unique_ptr<tls::Session> session)
        : socket_(std::move(socket)), session_(std::move(session)), heard_(128 * KiB) {}

    struct Command {
        nbd::Command type{};
        std::uint64_t cookie = 0;
        std::uint64_t offset = 0;
        std::uint64_t length = 0;
        bool is_head = false;  ///< a frame whose data follow: nobody waits for its answer alone
    };

    /// Takes what has arrived.
    void listen() {
        while (receive() > 0) {
        }
        while (auto command = next_command()) {
            commands_.push_back(*command);
        }
    }
    [[nodiscard]] std::deque<Command>& commands() noexcept { return commands_; }

    void say(Bytes bytes) {
        if (!session_) {
            say_raw(bytes);
        } else if (session_->send(bytes)) {
            say_raw(session_->output());
            session_->output_taken(session_->output().size());
        }
    }
    /// Past TLS. What does not fit is lost: another sort of nonsense.
    void say_raw(Bytes bytes) {
        (void)::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }

  private:
    std::size_t receive() {
        const std::span<std::byte> room = session_ ? session_->input_space() : std::span(heard_);
        if (room.empty()) {
            return 0;
        }
        const ssize_t got = ::recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
        const auto count = static_cast<std::size_t>(std::max<ssize_t>(got, 0));
        if (!session_) {
            take(std::span(heard_).first(count));
            return count;
        }
        session_->input_filled(count);
        for (Result<std::size_t> clear(1); clear && *clear > 0;) {
            clear = session_->receive(heard_);
            take(std::span(heard_).first(clear.value_or(0)));
        }
        return count;
    }
    void take(Bytes bytes) { input_.insert(input_.end(), bytes.begin(), bytes.end()); }

    std::optional<Command> next_command() {
        if (input_.size() < nbd::Request::wire_size) {
            return std::nullopt;
        }
        const std::byte* const header = input_.data();
        require(nbd::load_be<std::uint32_t>(header) == nbd::request_magic, "it is an NBD request");
        Command command{.type = static_cast<nbd::Command>(nbd::load_be<std::uint16_t>(header + 6)),
                        .cookie = nbd::load_be<std::uint64_t>(header + 8),
                        .offset = nbd::load_be<std::uint64_t>(header + 16),
                        .length = nbd::load_be<std::uint32_t>(header + 24)};
        const std::size_t whole =
            nbd::Request::wire_size + (command.type == nbd::Command::write ? command.length : 0);
        if (input_.size() < whole) {
            return std::nullopt;
        }
        if (command.offset == nbd::frame_offset && command.length == nbd::FrameHeader::wire_size) {
            command.is_head = nbd::seems_apart(std::span(input_)
                                                   .subspan(nbd::Request::wire_size)
                                                   .first<nbd::FrameHeader::wire_size>());
        }
        input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(whole));
        return command;
    }

    const Fd socket_;
    const std::unique_ptr<tls::Session> session_;
    std::vector<std::byte> heard_;
    std::vector<std::byte> input_;
    std::deque<Command> commands_;
};

class Conversation {
  public:
    Conversation(std::uint8_t kind, std::uint8_t offers)
        : framed_((kind & 1U) != 0),
          encrypted_((kind & 2U) != 0),
          poll_(::epoll_create1(EPOLL_CLOEXEC)) {
        std::array<int, 2> ends{};
        require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0 &&
                    poll_.is_open(),
                "there is a socket");
        nbd::OpenedExport opened{.socket = Fd(ends[0]), .tls = std::nullopt, .facts = {}};
        opened.facts.size = volume_size + (framed_ ? nbd::framed_base : 0);
        opened.facts.flags = offers;
        std::unique_ptr<tls::Session> theirs;
        if (encrypted_) {
            const TlsNodes& nodes = tls_nodes(TlsMode::psk);
            auto client = nodes.alpha->dial("beta");
            auto server = nodes.beta->accept();
            require(client && server, "there are two ends");
            establish(*client, *server);
            opened.tls = std::move(*client);
            theirs = std::make_unique<tls::Session>(std::move(*server));
        }
        peer_ = std::make_unique<Peer>(Fd(ends[1]), std::move(theirs));
        const nbd::LinkOptions options{
            .deadline = std::chrono::hours(1), .heartbeat = false, .framed = framed_};
        link_ = std::make_unique<nbd::LinkDriver>(std::move(opened), options, "beta",
                                                  Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
        require(link_->start().has_value(), "a thread can be started");
        link_->on_lost([this](const Error& error) {
            require(!error.message.empty(), "a loss has a reason");
            ++losses_;
        });
        link_->lend(poll_.get(), this);
    }
    ~Conversation() {
        while (batches_ > 0) {
            end_batch();
        }
        peer_.reset();
        link_.reset();
        require(losses_ <= 1, "a link is lost once");
        for (const Asked& asked : asked_) {
            require(asked.times == 1, "every caller hears once");
        }
    }
    Conversation(const Conversation&) = delete;
    Conversation& operator=(const Conversation&) = delete;

    void ask(Input& input, nbd::Verb verb) {
        Asked& asked = asked_.emplace_back();
        const std::uint64_t offset = input.number<std::uint16_t>() * 4ULL;
        const auto flags = input.number<std::uint8_t>();
        const std::uint64_t length =
            input.number<std::uint16_t>() + ((flags & 4U) != 0 ? 64 * KiB : 0);
        asked.request = {.verb = verb, .range = {offset, length}};
        if (verb == nbd::Verb::read || verb == nbd::Verb::write) {
            asked.data.resize(length);
            asked.request.into = asked.data.data();
            asked.request.from = asked.data.data();
        }
        if (verb == nbd::Verb::write || verb == nbd::Verb::zero) {
            asked.request.flags = ((flags & 1U) != 0 ? nbd::command_flag::fua : 0) |
                                  ((flags & 2U) != 0 ? nbd::command_flag::no_hole : 0);
        }
        link_->submit(asked.request, [this, &asked](Result<void> result) {
            require(result || !result.error().message.empty(), "a failure has a reason");
            if (result && asked.request.verb == nbd::Verb::read && behaves_) {
                const Bytes held =
                    content().subspan(asked.request.range.offset, asked.request.range.length);
                require(std::equal(held.begin(), held.end(), asked.data.begin()),
                        "a caller gets the data that the peer sent");
            }
            asked.succeeded = result.has_value();
            ++asked.times;
        });
    }

    void toggle_batch() {
        if (batches_ == 0) {
            link_->begin_batch();
            ++batches_;
        } else {
            end_batch();
        }
    }

    /// The oldest command, or with `skip` a later one.
    void answer(std::size_t skip, std::uint32_t error) {
        peer_->listen();
        auto& commands = peer_->commands();
        if (commands.empty()) {
            return;
        }
        const auto chosen = commands.begin() + static_cast<std::ptrdiff_t>(skip % commands.size());
        const Peer::Command command = *chosen;
        // A frame that is answered out of turn ends the link, and so do errors that no peer gives.
        behaves_ = behaves_ && (!framed_ || (chosen == commands.begin() && error != EINVAL &&
                                             error != EPERM && error != ESHUTDOWN));
        commands.erase(chosen);
        const std::size_t told_before = told();
        const std::size_t successes_before = successes();
        say_untrusted(answer_to(command, error));
        if (behaves_) {
            const std::size_t callers = command.is_head ? 0 : 1;
            require(told() == told_before + callers, "an answer reaches its caller");
            require(successes() == successes_before + (error == 0 ? callers : 0),
                    "what was answered well has succeeded, nothing else");
        }
    }

    /// An answer to the oldest command, with bytes of it changed or cut off.
    void answer_wrongly(Input& input) {
        peer_->listen();
        if (peer_->commands().empty()) {
            return;
        }
        behaves_ = false;
        const std::vector<std::byte> good = answer_to(peer_->commands().front(), 0);
        std::vector<std::byte> bytes = good;
        bytes.resize(std::min<std::size_t>(bytes.size(), input.number<std::uint16_t>()));
        for (std::size_t flips = input.number<std::uint8_t>() % 4; flips > 0 && !bytes.empty();
             --flips) {
            bytes[input.number<std::uint16_t>() % bytes.size()] ^=
                std::byte{input.number<std::uint8_t>()};
        }
        distrusts_ = distrusts_ || (framed_ && !bytes.empty() && bytes != good);
        say_untrusted(bytes);
    }

    void talk_nonsense(Input& input) {
        behaves_ = false;
        const bool past_tls = input.flag();
        const Bytes bytes = input.bytes(input.number<std::uint8_t>());
        if (past_tls && encrypted_) {
            distrusts_ = distrusts_ || !bytes.empty();
            peer_->say_raw(bytes);
        }
        say_untrusted(past_tls ? Bytes() : bytes);
    }

  private:
    void end_batch() {
        link_->end_batch();
        --batches_;
    }
    /// In parts that the socket takes.
    void say(Bytes bytes) {
        do {
            const Bytes part = bytes.first(std::min<std::size_t>(bytes.size(), 32 * KiB));
            bytes = bytes.subspan(part.size());
            peer_->say(part);
            link_->receive_lent();
        } while (!bytes.empty());
    }
    void say_untrusted(Bytes bytes) {
        const std::size_t before = successes();
        say(bytes);
        require(!distrusts_ || successes() == before,
                "nothing is believed behind what was garbled");
    }
    [[nodiscard]] std::size_t told() const {
        return static_cast<std::size_t>(std::count_if(
            asked_.begin(), asked_.end(), [](const Asked& each) { return each.times > 0; }));
    }
    [[nodiscard]] std::size_t successes() const {
        return static_cast<std::size_t>(std::count_if(
            asked_.begin(), asked_.end(), [](const Asked& each) { return each.succeeded.load(); }));
    }
    [[nodiscard]] std::vector<std::byte> answer_to(const Peer::Command& command,
                                                   std::uint32_t error) const {
        std::vector<std::byte> bytes(nbd::simple_reply_size);
        std::byte* place = nbd::store_be(bytes.data(), nbd::simple_reply_magic);
        place = nbd::store_be(place, error);
        nbd::store_be(place, command.cookie);
        if (error != 0 || command.type != nbd::Command::read) {
            return bytes;
        }
        require(ByteRange{command.offset, command.length}.fits_in(content().size()),
                "reads are within the volume");
        const Bytes held = content().subspan(command.offset, command.length);
        bytes.insert(bytes.end(), held.begin(), held.end());
        const auto data = std::span(bytes).subspan(nbd::simple_reply_size);
        if (framed_ && data.size() >= nbd::trailer_size) {
            nbd::store_trailer(data, command.offset);
        }
        return bytes;
    }

    const bool framed_;
    const bool encrypted_;
    const Fd poll_;
    std::unique_ptr<Peer> peer_;
    std::deque<Asked> asked_;  ///< their buffers outlive the link
    std::unique_ptr<nbd::LinkDriver> link_;
    int batches_ = 0;
    std::atomic<bool> behaves_ = true;
    bool distrusts_ = false;  ///< the link must have noticed that something was changed on the way
    std::atomic<int> losses_ = 0;
};

}  // namespace

/// The first byte: framed, with TLS. The second: the transmission flags. Then what callers and peer
/// do, one after the other.
void answers(Bytes bytes) {
    Input input(bytes);
    const auto kind = input.number<std::uint8_t>();
    Conversation conversation(kind, input.number<std::uint8_t>());
    while (!input.at_end()) {
        switch (input.number<std::uint8_t>() % 9) {
            case 0:
                conversation.ask(input, nbd::Verb::read);
                break;
            case 1:
                conversation.ask(input, nbd::Verb::write);
                break;
            case 2:
                conversation.ask(input, nbd::Verb::zero);
                break;
            case 3:
                conversation.ask(input, nbd::Verb::flush);
                break;
            case 4:
                conversation.toggle_batch();
                break;
            case 5:
            case 6:
                conversation.answer(input.number<std::uint8_t>(), input.number<std::uint8_t>());
                break;
            case 7:
                conversation.answer_wrongly(input);
                break;
            default:
                conversation.talk_nonsense(input);
        }
    }
}

}  // namespace mirror::fuzz
