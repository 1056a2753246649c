// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/client_handshake.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <vector>

#include "core/base/foreign_text.hpp"
#include "core/nbd/wire.hpp"

namespace mirror::nbd {
namespace {

using Bytes = std::vector<std::byte>;

/// More is no answer to what we ask.
constexpr std::uint32_t longest_reply = 64 * KiB;
/// Infos may come in any number before the answer; a server that never comes to it is none.
constexpr int most_replies = 64;
constexpr std::size_t longest_words = 400;

template <std::unsigned_integral T>
void append_be(Bytes& to, T value) {
    const std::size_t at = to.size();
    to.resize(at + sizeof(T));
    store_be(to.data() + at, value);
}

/// Foreign text on its way to a terminal or a log: one line, no control characters.
std::string printable(std::span<const std::byte> bytes) {
    return without_controls(
        {reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), longest_words)}, '?');
}

std::string_view meaning_of(std::uint32_t error) noexcept {
    switch (static_cast<OptionReply>(error)) {
        case OptionReply::err_unsupported:
            return "it does not know this request";
        case OptionReply::err_policy:
            return "denied by its policy";
        case OptionReply::err_invalid:
            return "it reports the request as invalid";
        case OptionReply::err_unknown:
            return "there is no such export";
        case OptionReply::err_too_big:
            return "the request is too large for it";
        case OptionReply::err_tls_required:
            return "it requires TLS";
        default:
            return "it gives no reason";
    }
}

}  // namespace

struct ClientHandshake::Reply {
    std::uint32_t type = 0;
    Bytes data{};

    [[nodiscard]] bool is(OptionReply wanted) const noexcept {
        return type == static_cast<std::uint32_t>(wanted);
    }
    [[nodiscard]] bool is_error() const noexcept { return (type & 0x80000000U) != 0; }
    [[nodiscard]] std::string words() const {
        return data.empty() ? std::string(meaning_of(type)) : printable(data);
    }
};

Stream& ClientHandshake::stream() noexcept {
    return encrypted_ ? *encrypted_ : stream_;
}

Result<ExportFacts> ClientHandshake::run(const std::string& export_name) {
    if (auto greeted = greet(); !greeted) {
        return Failure(greeted.error());
    }
    if (credentials_ != nullptr) {
        if (auto begun = begin_tls(); !begun) {
            return Failure(begun.error());
        }
    }
    return go(export_name);
}

Result<void> ClientHandshake::greet() {
    std::array<std::byte, 18> greeting{};
    if (auto got = receive(greeting); !got) {
        return got;
    }
    if (load_be<std::uint64_t>(greeting.data()) != init_magic) {
        return broken("what replies is not an NBD server");
    }
    const auto flags = load_be<std::uint16_t>(greeting.data() + 16);
    if (load_be<std::uint64_t>(greeting.data() + 8) != option_magic ||
        (flags & handshake_flag::fixed_newstyle) == 0) {
        return broken("the NBD server does not speak fixed newstyle");
    }
    std::array<std::byte, 4> ours{};
    store_be(ours.data(),
             std::uint32_t{flags} & (handshake_flag::fixed_newstyle | handshake_flag::no_zeroes));
    return send(ours);
}

Result<void> ClientHandshake::begin_tls() {
    auto session = credentials_->dial(node_);
    if (!session) {
        return Failure(session.error());
    }
    if (auto sent = send_option(Option::starttls, {}); !sent) {
        return sent;
    }
    const auto reply = receive_reply(Option::starttls);
    if (!reply) {
        return Failure(reply.error());
    }
    if (!reply->is(OptionReply::ack)) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{}: refuses TLS: {}", who_, reply->words()),
                             "both nodes need the same 'tls' in their config, and a key or "
                             "certificate each: run mirrorctl check on both"});
    }
    encrypted_ = std::make_unique<TlsStream>(stream_, std::move(*session));
    if (auto done = encrypted_->handshake(patience_); !done) {
        return Failure(in_words(done.error(), "TLS"));
    }
    return {};
}

Result<ExportFacts> ClientHandshake::go(const std::string& export_name) {
    Bytes request;
    append_be(request, static_cast<std::uint32_t>(export_name.size()));
    const auto name = std::as_bytes(std::span(export_name));
    request.insert(request.end(), name.begin(), name.end());
    append_be(request, std::uint16_t{1});
    append_be(request, static_cast<std::uint16_t>(Info::block_size));
    if (auto sent = send_option(Option::go, request); !sent) {
        return Failure(sent.error());
    }
    ExportFacts facts;
    bool has_size = false;
    for (int count = 0; count < most_replies; ++count) {
        const auto reply = receive_reply(Option::go);
        if (!reply) {
            return Failure(reply.error());
        }
        if (reply->is_error()) {
            const bool wants_tls = reply->is(OptionReply::err_tls_required);
            return Failure(Error{
                .kind = ErrorKind::refused,
                .message = fmt::format("{}: refuses the export '{}': {}", who_, export_name,
                                       reply->words()),
                .remedy =
                    wants_tls ? "the other node's config says so: both need the same 'tls'" : "",
                .os_error = reply->is(OptionReply::err_unknown) ? ENOENT : EPERM});
        }
        if (reply->is(OptionReply::ack)) {
            return has_size ? Result<ExportFacts>(facts) : broken("the export has no size");
        }
        if (!reply->is(OptionReply::info) || reply->data.size() < 2) {
            return broken("an answer to GO makes no sense");
        }
        const std::byte* const data = reply->data.data();
        const auto info = static_cast<Info>(load_be<std::uint16_t>(data));
        if (info == Info::export_info && reply->data.size() == 12) {
            facts.size = load_be<std::uint64_t>(data + 2);
            facts.flags = load_be<std::uint16_t>(data + 10);
            has_size = true;
        } else if (info == Info::block_size && reply->data.size() == 14) {
            facts.minimum_block = load_be<std::uint32_t>(data + 2);
        }
    }
    return broken("the server does not complete its reply");
}

Result<void> ClientHandshake::send_option(Option option, std::span<const std::byte> data) {
    Bytes bytes;
    append_be(bytes, option_magic);
    append_be(bytes, static_cast<std::uint32_t>(option));
    append_be(bytes, static_cast<std::uint32_t>(data.size()));
    bytes.insert(bytes.end(), data.begin(), data.end());
    return send(bytes);
}

Result<ClientHandshake::Reply> ClientHandshake::receive_reply(Option option) {
    std::array<std::byte, 20> header{};
    if (auto got = receive(header); !got) {
        return Failure(got.error());
    }
    const auto length = load_be<std::uint32_t>(header.data() + 16);
    if (load_be<std::uint64_t>(header.data()) != option_reply_magic ||
        load_be<std::uint32_t>(header.data() + 8) != static_cast<std::uint32_t>(option) ||
        length > longest_reply) {
        return broken("a reply to an option makes no sense");
    }
    Reply reply{.type = load_be<std::uint32_t>(header.data() + 12)};
    reply.data.resize(length);
    if (auto got = receive(reply.data); !got) {
        return Failure(got.error());
    }
    return reply;
}

Result<void> ClientHandshake::receive(std::span<std::byte> into) {
    Result<void> got = recv_exactly(stream(), into, patience_);
    return got ? got : Failure(in_words(got.error(), "the NBD handshake"));
}

Result<void> ClientHandshake::send(std::span<const std::byte> bytes) {
    Result<void> sent = stream().send_all(bytes, patience_);
    return sent ? sent : Failure(in_words(sent.error(), "the NBD handshake"));
}

Failure ClientHandshake::broken(std::string_view what) const {
    return fail(ErrorKind::protocol, "{}: the NBD handshake failed: {}", who_, what);
}

/// A stream's errors speak of the other side as a client, and know no names.
Error ClientHandshake::in_words(const Error& error, std::string_view step) const {
    Error told = error;
    if (error.kind == ErrorKind::timed_out) {
        told.message = fmt::format("{}: no answer to the NBD handshake", who_);
    } else if (error.kind == ErrorKind::unreachable || error.os_error == ECONNRESET ||
               error.os_error == EPIPE) {
        told.kind = ErrorKind::unreachable;
        told.message = fmt::format("{}: {} failed: the server closed the connection", who_, step);
    } else {
        told.message = fmt::format("{}: {} failed: {}", who_, step, error.message);
    }
    return told;
}

}  // namespace mirror::nbd
