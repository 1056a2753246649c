// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/handshake.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "core/nbd/option_data.hpp"

namespace mirror::nbd {
namespace {

/// The longest option that has a use: a name of 4096 bytes and a few queries.
constexpr std::uint32_t max_option_length = 8 * KiB;
/// Stock clients need about ten.
constexpr int max_options = 256;

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

template <std::unsigned_integral T>
void append_be(std::vector<std::byte>& to, T value) {
    std::array<std::byte, sizeof(T)> bytes;
    store_be(bytes.data(), value);
    to.insert(to.end(), bytes.begin(), bytes.end());
}

void append(std::vector<std::byte>& to, std::span<const std::byte> bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
}

bool is_known(Option option) {
    const auto number = static_cast<std::uint32_t>(option);
    return number >= 1 && number <= 10 && number != 4;
}

OptionReply refusal_for(const Error& error) {
    switch (error.kind) {
        case ErrorKind::not_found:
            return OptionReply::err_unknown;
        case ErrorKind::invalid:
            return OptionReply::err_invalid;
        default:
            return OptionReply::err_policy;
    }
}

}  // namespace

Handshake::Handshake(Stream& stream, ExportProvider& provider, Admission& admission,
                     const Client& client, const tls::Credentials* tls,
                     std::chrono::milliseconds timeout)
    : stream_(stream),
      provider_(provider),
      admission_(admission),
      client_(client),
      tls_(tls),
      timeout_(timeout),
      patience_{.until = std::chrono::steady_clock::now() + timeout} {}

Result<Negotiated> Handshake::run() {
    if (Result<void> greeted = greet(); !greeted) {
        return Failure(greeted.error());
    }
    for (int i = 0; i < max_options; ++i) {
        // A client that never lets the socket run dry never meets the deadline in poll().
        if (std::chrono::steady_clock::now() > patience_.until) {
            return fail(ErrorKind::timed_out, "the handshake took too long");
        }
        const Result<Option> option = receive_option();
        if (!option) {
            return Failure(option.error());
        }
        const Result<Step> step = answer(*option);
        if (!step) {
            return Failure(step.error());
        }
        if (*step == Step::transmit) {
            return std::move(negotiated_);
        }
    }
    return fail(ErrorKind::protocol, "more than {} options in one handshake", max_options);
}

Result<void> Handshake::greet() {
    append_be(pending_, init_magic);
    append_be(pending_, option_magic);
    append_be<std::uint16_t>(pending_, handshake_flag::fixed_newstyle | handshake_flag::no_zeroes);
    if (Result<void> sent = send_pending(); !sent) {
        return sent;
    }
    std::array<std::byte, 4> answer{};
    if (Result<void> got = recv_exactly(stream(), answer, patience_); !got) {
        return got;
    }
    const auto flags = load_be<std::uint32_t>(answer.data());
    constexpr std::uint32_t known = handshake_flag::fixed_newstyle | handshake_flag::no_zeroes;
    if ((flags & ~known) != 0 || (flags & handshake_flag::fixed_newstyle) == 0) {
        return fail(ErrorKind::protocol, "the client's flags {:#x} are not fixed newstyle", flags);
    }
    no_zeroes_ = (flags & handshake_flag::no_zeroes) != 0;
    return {};
}

Result<Option> Handshake::receive_option() {
    std::array<std::byte, 16> header{};
    if (Result<void> got = recv_exactly(stream(), header, patience_); !got) {
        return Failure(got.error());
    }
    if (load_be<std::uint64_t>(header.data()) != option_magic) {
        return fail(ErrorKind::protocol, "an option does not begin with its magic number");
    }
    const auto option = static_cast<Option>(load_be<std::uint32_t>(header.data() + 8));
    const auto length = load_be<std::uint32_t>(header.data() + 12);
    if (length > max_option_length) {
        if (is_known(option)) {
            // The connection ends either way; an answer that does not arrive changes nothing.
            (void)reply(option, OptionReply::err_too_big, "the option is too long");
        }
        return fail(ErrorKind::protocol, "an option of {} bytes", length);
    }
    data_.resize(length);
    if (Result<void> got = recv_exactly(stream(), data_, patience_); !got) {
        return Failure(got.error());
    }
    return option;
}

Stream& Handshake::stream() noexcept {
    return negotiated_.encrypted ? *negotiated_.encrypted : stream_;
}

Result<Handshake::Step> Handshake::answer(Option option) {
    if (tls_ != nullptr && !negotiated_.encrypted) {
        return answer_plain(option);
    }
    switch (option) {
        case Option::export_name:
            return answer_export_name();
        case Option::abort:
            (void)reply(option, OptionReply::ack);
            return fail(ErrorKind::unreachable, "the client gave up");
        case Option::list:
            return answer_list();
        case Option::info:
        case Option::go:
            return answer_go(option);
        case Option::structured_reply:
            return answer_structured_reply();
        case Option::list_meta_context:
        case Option::set_meta_context:
            return answer_meta_context(option);
        case Option::starttls:
            return negotiated_.encrypted
                       ? reply(option, OptionReply::err_invalid, "TLS was begun already")
                       : reply(option, OptionReply::err_policy,
                               "there is no TLS here (tls = \"off\")");
    }
    return reply(option, OptionReply::err_unsupported);
}

/// Whoever has not proved who he is learns nothing but how to do that.
Result<Handshake::Step> Handshake::answer_plain(Option option) {
    switch (option) {
        case Option::starttls:
            return answer_starttls();
        case Option::export_name:  // knows no error reply
            return fail(ErrorKind::refused, "the client did not begin TLS");
        case Option::abort:
            (void)reply(option, OptionReply::ack);
            return fail(ErrorKind::unreachable, "the client gave up");
        default:
            return reply(option, OptionReply::err_tls_required, "TLS is required here");
    }
}

/// What was said before is forgotten: it may be somebody else's word (proto.md, "STARTTLS"). There
/// is none that counts, since answer_plain() answers nothing.
Result<Handshake::Step> Handshake::answer_starttls() {
    if (!data_.empty()) {
        return reply(Option::starttls, OptionReply::err_invalid, "STARTTLS takes no data");
    }
    auto session = tls_->accept();
    if (!session) {
        admission_.failed_to_prove(client_, session.error());
        // The reason names files of this machine: it is for this node's log and `check`.
        return reply(
            Option::starttls, OptionReply::err_policy,
            "that node's own key or certificate can't be used: mirrorctl check there says why");
    }
    if (auto acknowledged = reply(Option::starttls, OptionReply::ack); !acknowledged) {
        return acknowledged;
    }
    auto encrypted = std::make_unique<TlsStream>(stream_, std::move(*session));
    if (auto done = encrypted->handshake(patience_); !done) {
        admission_.failed_to_prove(client_, done.error());
        return Failure(done.error());
    }
    client_.key = encrypted->proof().key;
    client_.node = encrypted->proof().node;
    negotiated_.encrypted = std::move(encrypted);
    return Step::next_option;
}

Result<Handshake::Step> Handshake::answer_export_name() {
    const std::string name(reinterpret_cast<const char*>(data_.data()), data_.size());
    if (Result<void> opened = open(name); !opened) {
        return Failure(opened.error());  // this option knows no error reply: the connection ends
    }
    append_be(pending_, negotiated_.traits.size);
    append_be(pending_, transmission_flags());
    if (!no_zeroes_) {
        pending_.resize(pending_.size() + 124);
    }
    patience_.until = std::chrono::steady_clock::now() + timeout_;
    if (Result<void> sent = send_pending(); !sent) {
        return Failure(sent.error());
    }
    return Step::transmit;
}

Result<Handshake::Step> Handshake::answer_go(Option option) {
    const std::optional<GoRequest> request = parse_go(data_);
    if (!request) {
        return reply(option, OptionReply::err_invalid, "the request is malformed");
    }
    if (Result<void> opened = open(request->name); !opened) {
        return reply(option, refusal_for(opened.error()), opened.error().text());
    }
    add_info(option, Info::export_info);
    for (const Info info : {Info::name, Info::description, Info::block_size}) {
        const auto& wanted = request->infos;
        if (std::find(wanted.begin(), wanted.end(), info) != wanted.end()) {
            add_info(option, info);
        }
    }
    // Opening may have taken long for reasons of our own.
    patience_.until = std::chrono::steady_clock::now() + timeout_;
    const Result<Step> sent = reply(option, OptionReply::ack);
    return sent && option == Option::go ? Step::transmit : sent;
}

Result<Handshake::Step> Handshake::answer_list() {
    if (!data_.empty()) {
        return reply(Option::list, OptionReply::err_invalid, "LIST takes no data");
    }
    for (const std::string& name : provider_.list(client_)) {
        Bytes data;
        append_be(data, static_cast<std::uint32_t>(name.size()));
        append(data, bytes_of(name));
        add_reply(Option::list, OptionReply::server, data);
    }
    return reply(Option::list, OptionReply::ack);
}

Result<Handshake::Step> Handshake::answer_structured_reply() {
    if (!data_.empty()) {
        return reply(Option::structured_reply, OptionReply::err_invalid,
                     "STRUCTURED_REPLY takes no data");
    }
    negotiated_.structured_replies = true;
    return reply(Option::structured_reply, OptionReply::ack);
}

Result<Handshake::Step> Handshake::answer_meta_context(Option option) {
    const bool is_list = option == Option::list_meta_context;
    if (!is_list) {
        context_chosen_ = false;
    }
    const std::optional<ContextQuery> request = parse_context_query(data_);
    if (!request) {
        return reply(option, OptionReply::err_invalid, "the request is malformed");
    }
    if (!negotiated_.structured_replies) {
        return reply(option, OptionReply::err_invalid, "structured replies come first");
    }
    if (Result<void> opened = open(request->name); !opened) {
        return reply(option, refusal_for(opened.error()), opened.error().text());
    }
    const bool chosen =
        negotiated_.traits.extents && asks_for_allocation(request->queries, is_list);
    if (chosen) {
        Bytes data;
        append_be(data, is_list ? 0 : context_id);
        append(data, bytes_of(allocation_context));
        add_reply(option, OptionReply::meta_context, data);
    }
    if (!is_list) {
        context_chosen_ = chosen;
        context_name_ = request->name;
    }
    return reply(option, OptionReply::ack);
}

Result<void> Handshake::open(const std::string& name) {
    if (name.size() > max_name || name.find('\0') != std::string::npos) {
        return fail(ErrorKind::invalid, "the export's name is too long or has a zero byte");
    }
    if (negotiated_.exported == nullptr || name != name_) {
        close();
        const TlsStream* encrypted = negotiated_.encrypted.get();
        if (!admission_.enter(encrypted != nullptr ? &encrypted->proof() : nullptr)) {
            return fail(ErrorKind::refused, "too many connections");
        }
        Result<std::unique_ptr<Export>> opened =
            provider_.open(name, client_, admission_.shutdown());
        if (!opened) {
            admission_.leave();
            return Failure(opened.error());
        }
        negotiated_.exported = std::move(*opened);
        name_ = name;
    }
    negotiated_.traits = negotiated_.exported->traits();
    negotiated_.allocation = context_chosen_ && context_name_ == name;
    return {};
}

void Handshake::close() {
    if (negotiated_.exported != nullptr) {
        negotiated_.exported.reset();
        admission_.leave();
    }
}

std::uint16_t Handshake::transmission_flags() const {
    namespace flag = transmission_flag;
    const Traits& traits = negotiated_.traits;
    unsigned flags = flag::has_flags;
    const auto add_if = [&flags](bool condition, std::uint16_t bit) {
        flags |= condition ? bit : 0U;
    };
    add_if(traits.read_only, flag::read_only);
    add_if(traits.flush, flag::send_flush | flag::send_fua);
    add_if(traits.trim && !traits.read_only, flag::send_trim);
    add_if(traits.zero && !traits.read_only, flag::send_write_zeroes);
    add_if(traits.multi_conn, flag::can_multi_conn);
    add_if(negotiated_.structured_replies, flag::send_df);
    return static_cast<std::uint16_t>(flags);
}

void Handshake::add_info(Option option, Info info) {
    Bytes data;
    append_be(data, static_cast<std::uint16_t>(info));
    switch (info) {
        case Info::export_info:
            append_be(data, negotiated_.traits.size);
            append_be(data, transmission_flags());
            break;
        case Info::name:
            append(data, bytes_of(name_));
            break;
        case Info::description:
            append(data, bytes_of(negotiated_.traits.description));
            break;
        case Info::block_size:
            append_be(data, std::uint32_t{1});
            append_be(data, negotiated_.traits.preferred_block);
            append_be(data, static_cast<std::uint32_t>(max_payload));
            break;
    }
    add_reply(option, OptionReply::info, data);
}

void Handshake::add_reply(Option option, OptionReply type, std::span<const std::byte> data) {
    append_be(pending_, option_reply_magic);
    append_be(pending_, static_cast<std::uint32_t>(option));
    append_be(pending_, static_cast<std::uint32_t>(type));
    append_be(pending_, static_cast<std::uint32_t>(data.size()));
    append(pending_, data);
}

Result<Handshake::Step> Handshake::reply(Option option, OptionReply type, std::string_view text) {
    add_reply(option, type, bytes_of(text.substr(0, max_name)));
    if (Result<void> sent = send_pending(); !sent) {
        return Failure(sent.error());
    }
    return Step::next_option;
}

Result<void> Handshake::send_pending() {
    Result<void> sent = stream().send_all(pending_, patience_);
    pending_.clear();
    return sent;
}

}  // namespace mirror::nbd
