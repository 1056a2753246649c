// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/messages.hpp"

#include <doctest/doctest.h>

#include "core/base/json.hpp"

using namespace mirror;
using namespace mirror::control;

namespace {

WallTime some_time() {
    return *parse_rfc3339("2026-03-01T12:30:05.250Z");
}

ReplicaSummary some_summary() {
    Lineage lineage;
    lineage.begin(random_id<GenerationId>(), some_time(), "alpha", GenerationReason::created);
    lineage.begin(random_id<GenerationId>(), some_time(), "beta",
                  GenerationReason::forced_promotion);
    return {
        .node = "alpha",
        .volume = random_id<VolumeId>(),
        .size = 10 * std::uint64_t{1} << 40,
        .role = Role::active,
        .state = ReplicaState::up_to_date,
        .unclean = true,
        .last_active = true,
        .lineage = lineage,
        .session = random_id<SessionId>(),
        .session_begun = random_id<SessionId>(),
        .intent_bytes = 1 << 20,
        .changed_bytes = 4096,
        .last_update = some_time(),
        .break_at = WallTime{},
    };
}

/// What decoding says when one field is something else.
std::string complaint(const std::string& field, const Json& instead) {
    Json json = encode(some_summary());
    json[field] = instead;
    const Result<ReplicaSummary> summary = decode_summary(json);
    return summary ? "" : summary.error().message;
}

}  // namespace

TEST_CASE("a summary comes back as it was sent, through text") {
    const ReplicaSummary sent = some_summary();
    const Result<ReplicaSummary> got = decode_summary(Json::parse(encode(sent).dump()));
    REQUIRE(got.has_value());
    CHECK(got->node == sent.node);
    CHECK(got->volume == sent.volume);
    CHECK(got->size == sent.size);
    CHECK(got->role == sent.role);
    CHECK(got->state == sent.state);
    CHECK(got->unclean == sent.unclean);
    CHECK(got->last_active == sent.last_active);
    CHECK(got->lineage == sent.lineage);
    CHECK(got->session == sent.session);
    CHECK(got->session_begun == sent.session_begun);
    CHECK(got->intent_bytes == sent.intent_bytes);
    CHECK(got->changed_bytes == sent.changed_bytes);
    CHECK(got->last_update == sent.last_update);
    CHECK(got->break_at == sent.break_at);
}

TEST_CASE("a message is readable: ids as digits, words, times, null for a time not known") {
    const ReplicaSummary summary = some_summary();
    const Json json = encode(summary);
    CHECK(json["volume_id"] == to_string(summary.volume));
    CHECK(json["role"] == "active");
    CHECK(json["state"] == "up-to-date");
    CHECK(json["last_update"] == "2026-03-01T12:30:05.250Z");
    CHECK(json["break_at"].is_null());
    CHECK(json["lineage"][0]["node"] == "beta");
}

TEST_CASE("to whom a replica yields survives the way there and back") {
    ReplicaSummary sent = some_summary();
    CHECK(decode_summary(encode(sent))->yields_to.is_none());
    sent.steps = {.taken = 1, .offered = largest_step, .content = 3, .maps_from = 4};
    sent.doubtful = true;
    CHECK(decode_summary(encode(sent))->steps == sent.steps);
    CHECK(decode_summary(encode(sent))->doubtful);
    sent.steps.taken = largest_step + 1;
    CHECK_FALSE(decode_summary(encode(sent)));
    sent.steps = {};
    CHECK(decode_summary(encode(sent))->lacking_bytes == 0);
    sent.lacking_bytes = 4096;
    CHECK(decode_summary(encode(sent))->lacking_bytes == 4096);
    sent.yields_to = random_id<GenerationId>();
    CHECK(decode_summary(encode(sent))->yields_to == sent.yields_to);
    Json broken = encode(sent);
    broken["yields_to"] = 7;
    CHECK_FALSE(decode_summary(broken));
}

TEST_CASE("an empty lineage is an empty list") {
    CHECK(encode(Lineage()) == Json::array());
    CHECK(decode_lineage(Json::array())->empty());
}

TEST_CASE("every field is needed, and is named when it is missing") {
    const Json whole = encode(some_summary());
    for (const auto& item : whole.items()) {
        const std::string& name = item.key();  // clang 14 can't capture a structured binding
        if (name == "break_at") {
            continue;
        }
        Json json = whole;
        json.erase(name);
        const Result<ReplicaSummary> summary = decode_summary(json);
        REQUIRE_FALSE(summary.has_value());
        CHECK(summary.error().kind == ErrorKind::invalid);
        CHECK(summary.error().message == "'" + name + "' is missing");
    }
}

TEST_CASE("every field of every wrong type is refused and named") {
    const Json whole = encode(some_summary());
    for (const auto& item : whole.items()) {
        const std::string& name = item.key();  // clang 14 can't capture a structured binding
        for (const Json& other : {Json(-1), Json(1.5), Json("?"), Json{{"a", 1}}, Json{1, 2}}) {
            CAPTURE(name);
            CAPTURE(other.dump());
            CHECK(complaint(name, other).find(name) != std::string::npos);
        }
    }
    CHECK_FALSE(decode_summary(Json()).has_value());
    CHECK_FALSE(decode_summary(Json::array()).has_value());
    CHECK_FALSE(decode_lineage(Json::object()).has_value());
    CHECK_FALSE(decode_generation(Json("x")).has_value());
}

TEST_CASE("words, ids and names are checked") {
    CHECK(complaint("role", "primary").find("role") == 0);
    CHECK(complaint("volume_id", "12").find("volume_id") == 0);
    CHECK(complaint("node", "../etc") == "'node' is not a node's name");
    CHECK(complaint("last_update", "yesterday").find("last_update") == 0);
    CHECK(complaint("size_bytes", -4096) == "'size_bytes' is not a whole number from 0 up");
}

TEST_CASE("a lineage from elsewhere has its limits, and errors name the generation") {
    Json lineage = encode(some_summary().lineage);
    Json longer = lineage;
    while (longer.size() <= Lineage::capacity) {
        longer.push_back(lineage[0]);
    }
    CHECK(decode_lineage(longer).error().message == "more than 32 generations");
    lineage[1]["reason"] = "boredom";
    CHECK(decode_lineage(lineage).error().message.find("generation 1: reason: ") == 0);
    lineage[1]["reason"] = "created";
    lineage[0]["id"] = std::string(32, '0');
    CHECK(decode_lineage(lineage).error().message == "generation 0: 'id' is none");
}

TEST_CASE("fields of a request are got by type") {
    const Json request{{"volume", "r0"}, {"force", true}, {"size", 4096},
                       {"to", nullptr},  {"list", {1}},   {"nested", {{"a", 1}}}};
    CHECK(*string_field(request, "volume") == "r0");
    CHECK(*bool_field(request, "force"));
    CHECK(*uint_field(request, "size") == 4096);
    CHECK((*object_field(request, "nested"))->at("a") == 1);
    CHECK((*array_field(request, "list"))->size() == 1);

    CHECK_FALSE(optional_string_field(request, "to")->has_value());
    CHECK_FALSE(optional_string_field(request, "nowhere")->has_value());
    CHECK(**optional_string_field(request, "volume") == "r0");
    CHECK(**optional_uint_field(request, "size") == 4096);
    CHECK(*bool_field_or(request, "dry_run", false) == false);
    CHECK(*bool_field_or(request, "force", false) == true);

    CHECK(string_field(request, "nowhere").error().message == "'nowhere' is missing");
    CHECK(string_field(request, "to").error().message == "'to' is missing");
    CHECK(string_field(request, "size").error().message == "'size' is not a text");
    CHECK(bool_field_or(request, "volume", true).error().message ==
          "'volume' is not true or false");
    CHECK_FALSE(optional_uint_field(request, "force").has_value());
    CHECK_FALSE(object_field(request, "list").has_value());
    CHECK_FALSE(array_field(request, "nested").has_value());
    CHECK_FALSE(string_field(Json(7), "volume").has_value());
}

TEST_CASE("texts are of bearable length and free of zero bytes") {
    CHECK_FALSE(string_field({{"a", std::string(max_text + 1, 'x')}}, "a").has_value());
    CHECK_FALSE(string_field({{"a", std::string("r0\0x", 4)}}, "a").has_value());
}
