// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/mailbox.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <string_view>
#include <utility>

#include "core/base/json.hpp"
#include "core/control/json_text.hpp"
#include "core/control/mailbox_trailer.hpp"

namespace mirror::control {
namespace {

constexpr std::size_t first_read = 8 * KiB;

/// `what` is "the request" or "beta's reply".
Result<Json> parse_object(std::string_view text, std::string_view what, ErrorKind kind) {
    if (is_too_deep(text)) {
        return fail(kind, "{} nests deeper than {} levels", what, max_depth);
    }
    Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) {
        return fail(kind, "{} is not JSON", what);
    }
    if (!json.is_object()) {
        return fail(kind, "{} is not a JSON object", what);
    }
    return json;
}

/// Never throws: what is no UTF-8 (a file's name, a server's words) is replaced.
std::string serialized(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string error_reply(const Error& error) {
    Json fields{
        {"kind", to_string(error.kind)}, {"message", error.message}, {"remedy", error.remedy}};
    if (error.ground != Ground::other) {
        fields["ground"] = to_string(error.ground);
    }
    return serialized(Json{{"ok", false}, {"error", std::move(fields)}});
}

Error not_as_sent(std::string_view what) {
    return {ErrorKind::corrupt,
            fmt::format(
                "{} was corrupted in transit: its checksum does not match; it was discarded", what),
            "check the network cards, cables and switches between the nodes"};
}

/// The handler is foreign code at the border to a connection: nothing leaves it but a value.
Result<Json> handle(const Handler& handler, const Json& request, const nbd::Client& client) {
    try {
        return handler(request, client);
    } catch (const Json::exception& error) {
        return fail(ErrorKind::invalid, "the request makes no sense: {}", error.what());
    } catch (const std::exception& error) {
        return fail(ErrorKind::internal, "the request failed: {}", error.what());
    }
}

std::string answer(const Handler& handler, std::string_view text, const nbd::Client& client) {
    const Result<Json> request = parse_object(text, "the request", ErrorKind::invalid);
    if (!request) {
        return error_reply(request.error());
    }
    Result<Json> body = handle(handler, *request, client);
    if (!body) {
        return error_reply(body.error());
    }
    if (!body->is_null() && !body->is_object()) {
        return error_reply({ErrorKind::internal, "the reply is not a JSON object"});
    }
    (*body)["ok"] = true;
    std::string reply = serialized(*body);
    if (reply.size() + message_tail > mailbox_size) {
        return error_reply({ErrorKind::internal, "the reply is larger than a mailbox"});
    }
    return reply;
}

class MailboxExport : public nbd::Export {
  public:
    MailboxExport(Handler handler, nbd::Client client)
        : mailbox_(std::move(handler), std::move(client)) {}

    [[nodiscard]] nbd::Traits traits() const override {
        return {.size = mailbox_size, .description = "control requests and replies in JSON"};
    }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        return mailbox_.read(into, offset);
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        return mailbox_.write(from, offset);
    }
    [[nodiscard]] Result<void> zero(ByteRange, Space) override { return only_read_and_write(); }
    [[nodiscard]] Result<void> trim(ByteRange) override { return only_read_and_write(); }
    [[nodiscard]] Result<void> flush() override { return only_read_and_write(); }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return std::vector<Extent>{{range, false}};
    }
    [[nodiscard]] bool wants_thread() const noexcept override { return true; }

  private:
    static Failure only_read_and_write() {
        return fail(ErrorKind::invalid, "a mailbox is only read and written");
    }

    Mailbox mailbox_;
};

/// Of a request with its trailer.
std::uint32_t sum_of(std::string_view request) noexcept {
    return message_sum(request.substr(0, request.size() - message_tail), 0);
}

Error error_in(const Json& reply, const std::string& peer) {
    const auto found = reply.find("error");
    if (found == reply.end() || !found->is_object()) {
        return {ErrorKind::protocol, fmt::format("{}: refused without a reason", peer)};
    }
    const auto text = [&](const char* key) {
        const auto field = found->find(key);
        return field != found->end() && field->is_string() ? field->get<std::string>()
                                                           : std::string();
    };
    Error error{error_kind_from(text("kind")), text("message"), text("remedy")};
    error.ground = ground_from(text("ground"));
    if (error.message.empty()) {
        error.message = fmt::format("{}: refused without a reason", peer);
    }
    return error;
}

}  // namespace

Mailbox::Mailbox(Handler handler, nbd::Client client)
    : handler_(std::move(handler)), client_(std::move(client)) {}

Result<void> Mailbox::write(std::span<const std::byte> from, std::uint64_t offset) {
    if (offset != 0) {
        return fail(ErrorKind::invalid, "a request is written at offset 0, not at {}", offset);
    }
    if (from.size() > mailbox_size) {
        return fail(ErrorKind::invalid, "a request has at most {}", format_size(mailbox_size));
    }
    const Message message = split_message(from, 0);
    if (message.check == Message::Check::wrong) {
        reply_ = with_trailer(error_reply(not_as_sent("the request")), 0);
        return {};
    }
    const bool checked = message.check == Message::Check::fits;
    reply_ = with_trailer(answer(handler_, message.text, client_),
                          checked ? message_sum(message.text, 0) : 0);
    return {};
}

Result<void> Mailbox::read(std::span<std::byte> into, std::uint64_t offset) const {
    if (!ByteRange{offset, into.size()}.fits_in(mailbox_size)) {
        return fail(ErrorKind::invalid, "a mailbox has {}", format_size(mailbox_size));
    }
    const std::size_t begin = std::min<std::size_t>(offset, reply_.size());
    const std::size_t length = std::min(reply_.size() - begin, into.size());
    std::copy_n(reinterpret_cast<const std::byte*>(reply_.data()) + begin, length, into.begin());
    std::fill(into.begin() + static_cast<std::ptrdiff_t>(length), into.end(), std::byte{0});
    return {};
}

std::unique_ptr<nbd::Export> make_mailbox_export(Handler handler, nbd::Client client) {
    return std::make_unique<MailboxExport>(std::move(handler), std::move(client));
}

Result<MailboxClient> MailboxClient::connect(const nbd::Address& address,
                                             const std::string& peer_name,
                                             std::chrono::milliseconds deadline,
                                             std::chrono::milliseconds connect_timeout,
                                             std::chrono::milliseconds silence) {
    const nbd::LinkOptions options{
        .connect_timeout = std::min(deadline, connect_timeout),
        .deadline = deadline,
        .patience = std::max(deadline, MailboxClient::patience_with_work),
        .silence = silence,
        .heartbeat = false,  // a read while a request is carried out would only wait behind it
        .peer_name = peer_name,
    };
    Result<std::unique_ptr<nbd::Link>> link = nbd::Link::connect(address, mailbox_export, options);
    if (!link) {
        return Failure(std::move(link.error()));
    }
    return MailboxClient(std::move(*link), peer_name.empty() ? address.text() : peer_name);
}

Result<std::string> MailboxClient::compose(const Json& request) const {
    std::string text = with_trailer(serialized(request), 0);
    if (text.size() > std::min(mailbox_size, link_->export_size())) {
        return fail(ErrorKind::invalid, "{}: a request of {} is too large", name_,
                    format_size(text.size()));
    }
    return text;
}

std::vector<std::byte> MailboxClient::room_for_reply() const {
    const std::uint64_t usual =
        std::max<std::uint64_t>(divide_up(longest_reply_, first_read), 1) * first_read;
    return std::vector<std::byte>(std::min({usual, mailbox_size, link_->export_size()}));
}

Result<Json> MailboxClient::ask(const Json& request) {
    const auto text = compose(request);
    if (!text) {
        return Failure(text.error());
    }
    if (Result<void> sent = link_->write(std::as_bytes(std::span(*text)), 0, false); !sent) {
        return Failure(std::move(sent.error()));
    }
    std::vector<std::byte> bytes = room_for_reply();
    if (Result<void> read = link_->read(bytes, 0); !read) {
        return Failure(std::move(read.error()));
    }
    return understand(complete(std::move(bytes), sum_of(*text)));
}

Result<Json> MailboxClient::ask_at_once(const Json& request) {
    const auto text = compose(request);
    if (!text) {
        return Failure(text.error());
    }
    std::vector<std::byte> bytes = room_for_reply();
    if (Result<void> done = link_->exchange(std::as_bytes(std::span(*text)), bytes); !done) {
        return Failure(std::move(done.error()));
    }
    return understand(complete(std::move(bytes), sum_of(*text)));
}

Result<Json> MailboxClient::understand(const Result<std::string>& reply_text) const {
    if (!reply_text) {
        return Failure(reply_text.error());
    }
    Result<Json> reply = parse_object(*reply_text, name_ + "'s reply", ErrorKind::protocol);
    if (!reply) {
        return reply;
    }
    const auto ok = reply->find("ok");
    if (ok == reply->end() || !ok->is_boolean()) {
        return fail(ErrorKind::protocol, "{}'s reply does not say whether it is 'ok'", name_);
    }
    if (!ok->get<bool>()) {
        return Failure(error_in(*reply, name_));
    }
    reply->erase("ok");
    return reply;
}

/// Most replies fit in what was read first; a longer one takes one more read.
Result<std::string> MailboxClient::complete(std::vector<std::byte> bytes,
                                            std::uint32_t request_sum) {
    const auto size = static_cast<std::size_t>(std::min(mailbox_size, link_->export_size()));
    if (split_message(bytes, request_sum).text.size() + message_tail > bytes.size() &&
        bytes.size() < size) {
        const std::size_t have = bytes.size();
        bytes.resize(size);
        if (Result<void> read = link_->read(std::span(bytes).subspan(have), have); !read) {
            return Failure(std::move(read.error()));
        }
    }
    const Message message = split_message(bytes, request_sum);
    switch (message.check) {
        case Message::Check::fits:
            longest_reply_ = std::max(longest_reply_, message.text.size() + message_tail);
            return std::string(message.text);
        case Message::Check::wrong:
            return Failure(not_as_sent(name_ + "'s reply"));
        case Message::Check::absent:
            break;
    }
    return Failure(Error{ErrorKind::protocol,
                         fmt::format("{}'s reply carries no checksum: it speaks an older protocol "
                                     "than {}, or is not mirrordisk",
                                     name_, protocol_version),
                         "run the same version of mirrordisk on both nodes"});
}

Result<Json> ask_once(const nbd::Address& address, const std::string& peer_name,
                      const Json& request, std::chrono::milliseconds deadline,
                      std::chrono::milliseconds silence) {
    Result<MailboxClient> client = MailboxClient::connect(
        address, peer_name, deadline, MailboxClient::usual_connect_timeout, silence);
    if (!client) {
        return Failure(std::move(client.error()));
    }
    return client->ask(request);
}

}  // namespace mirror::control
