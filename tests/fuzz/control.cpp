// SPDX-License-Identifier: BSD-3-Clause
// Control messages both ways: what a mailbox takes, and what an asker makes of the answer. Every
// decoder gets every message, so that a field that breaks one is found whatever the request is
// called.
#include <string>
#include <vector>

#include "core/base/json.hpp"
#include "core/control/comparison_requests.hpp"
#include "core/control/json_text.hpp"
#include "core/control/mailbox.hpp"
#include "core/control/mailbox_trailer.hpp"
#include "core/control/messages.hpp"
#include "core/engine/verify_record.hpp"
#include "core/lineage/handshake.hpp"
#include "core/lineage/promotion.hpp"
#include "daemon/peer_answer.hpp"
#include "flat_store.hpp"
#include "input.hpp"

namespace mirror::fuzz {
namespace {

using control::Json;

constexpr std::uint64_t volume_size = 1 * MiB + 4096;

/// Two replicas that meet: both ends must come to the same, whatever they say.
void meet(const ReplicaSummary& ours, const ReplicaSummary& theirs) {
    const Decision here = decide(ours, theirs);
    require(mirrored(here.action) == decide(theirs, ours).action, "both ends decide alike");
    require(!here.reason.empty(), "every decision has a reason");
    require(!judge_promotion({.ours = ours,
                              .peer = theirs,
                              .peer_name = theirs.node,
                              .force = {},
                              .fenced = {},
                              .volume_name = "r0"})
                 .reason.empty(),
            "every verdict has a reason");
    (void)judge_agreement(theirs, ours, "r0");
    (void)why_not_resume(ours, theirs);
}

Lineage gone_on(const Lineage& from, unsigned char number, const std::string& node) {
    Lineage lineage = from;
    GenerationId id;
    id.bytes.fill(number);
    lineage.begin(id, WallTime(std::chrono::seconds(number)), node, GenerationReason::peer_lost);
    return lineage;
}

/// Nothing that was decoded may be lost on its way back, nor may deciding on it fail: beside a
/// replica that is as it is, has gone on, was left behind, has gone another way, or is another.
void use(const ReplicaSummary& theirs) {
    const auto again = control::decode_summary(control::encode(theirs));
    require(again && control::encode(*again) == control::encode(theirs), "a summary stays itself");
    ReplicaSummary ours = theirs;
    ours.node = theirs.node == "alpha" ? "beta" : "alpha";
    meet(ours, theirs);
    ours.role = theirs.role == Role::active ? Role::standby : Role::active;
    meet(ours, theirs);
    ReplicaSummary newer = theirs;
    newer.lineage = gone_on(theirs.lineage, 0xF2, theirs.node);
    meet(ours, newer);
    ours.lineage = gone_on(theirs.lineage, 0xF1, ours.node);
    meet(ours, theirs);
    meet(ours, newer);
    ours.lineage = gone_on(Lineage(), 0xF3, ours.node);
    meet(ours, theirs);
    ours.state = ReplicaState::up_to_date;
    meet(ours, newer);
    ours.yields_to = newer.lineage.current();
    meet(ours, newer);
    ours = theirs;
    ours.node = theirs.node == "alpha" ? "beta" : "alpha";
    ours.size /= 2;
    meet(ours, newer);
    ours.volume.bytes.fill(0xF4);
    meet(ours, theirs);
}

void decode_all(const Json& message) {
    if (const auto summary = control::decode_summary(message)) {
        use(*summary);
    }
    if (const auto object = control::object_field(message, "summary")) {
        if (const auto summary = control::decode_summary(**object)) {
            use(*summary);
        }
    }
    if (const auto array = control::array_field(message, "lineage")) {
        (void)control::decode_lineage(**array);
    }
    if (const auto record = decode_verify_record(message)) {
        require(decode_verify_record(encode(*record)).value() == *record, "a record stays itself");
        (void)verify_status(*record, record->started_at, VerifyPace{.bytes_per_second = 1});
    }
    if (const auto answer = daemon::parse_peer_answer(message)) {
        for (const auto& [name, volume] : answer->volumes) {
            use(volume.summary);
        }
    }
    (void)control::bool_field(message, "resync");
    (void)control::optional_string_field(message, "why");
}

/// What a comparison of two replicas sends and gets.
void compare(const Json& message) {
    Bitmap regions(divide_up(volume_size, region_size));
    if (const auto next = control::add_regions(message, regions)) {
        require(regions.count() <= regions.size(), "only regions that exist");
    }
    Bitmap blocks(divide_up(volume_size, block_size));
    (void)control::add_differing_blocks(message, message, {0, 1}, blocks);
    regions.set({0, 2});
    (void)control::answer_differing_regions(message, regions);
    static FlatStore store{std::vector<std::byte>(volume_size)};
    (void)control::answer_block_digests(message, store);
}

}  // namespace

void control_request(Bytes bytes) {
    control::Mailbox mailbox(
        [](const Json& request, const nbd::Client&) -> Result<Json> {
            decode_all(request);
            compare(request);
            // As careless as a handler may be: what it throws is caught.
            return Json{{"echo", request}, {"volume", request.at("volume").get<std::string>()}};
        },
        nbd::Client{.address = "unix"});
    Input input(bytes);
    const bool with_trailer = input.flag();
    const Bytes rest = input.rest();
    const std::string text =
        with_trailer ? control::with_trailer(std::string(as_text(rest)), 0) : "";
    const Bytes sent = with_trailer ? std::as_bytes(std::span(text)) : rest;
    if (!mailbox.write(sent, 0)) {
        return;
    }
    // An escaped character takes six; the rest is what the reply adds.
    const std::size_t most = 6 * 2 * sent.size() + 4096;
    std::vector<std::byte> reply(std::min<std::size_t>(most, control::mailbox_size));
    require(mailbox.read(reply, 0).has_value(), "a mailbox can be read");
    const auto message = control::split_message(reply, control::message_sum(as_text(rest), 0));
    const Json json = Json::parse(message.text, nullptr, false);
    require(json.is_object() && json.contains("ok"), "every request has a reply");
}

void control_reply(Bytes bytes) {
    Input input(bytes);
    const auto seed = input.number<std::uint32_t>();
    const Bytes rest = input.rest();
    (void)control::split_message(rest, seed);
    const std::string sealed = control::with_trailer(std::string(as_text(rest)), seed);
    const auto message = control::split_message(std::as_bytes(std::span(sealed)), seed);
    if (as_text(rest).find('\0') == std::string_view::npos) {
        require(message.check == control::Message::Check::fits && message.text == as_text(rest),
                "a sealed message is itself");
    }
    const Json json = control::parse_shallow(message.text);
    if (!json.is_discarded()) {
        decode_all(json);
        compare(json);
    }
}

}  // namespace mirror::fuzz
