// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/verify_record.hpp"

#include <fstream>
#include <iterator>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "temp_dir.hpp"

using namespace mirror;

namespace {

WallTime at(const char* time) {
    return parse_rfc3339(time).value();
}

VerifyRecord some_record() {
    VerifyRecord record;
    record.volume = random_id<VolumeId>();
    record.size = 10 * GiB;
    record.state = VerifyState::running;
    record.source = "alpha";
    record.repair = true;
    record.rate = 5 * MiB;
    record.started_at = at("2026-03-01T12:30:05.250Z");
    record.position = 3 * GiB;
    record.add({{8192, 4096}, false, true, {}});
    record.add({{MiB, 64 * KiB}, true, false, {}});
    record.last_finished = at("2026-02-01T12:30:05Z");
    record.last_mismatched_bytes = 4096;
    return record;
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

}  // namespace

TEST_CASE("a record is read as it was saved, and replaced as a whole") {
    const test::TempDir dir;
    const std::string path = verify_record_path(dir.path(), "r0");
    CHECK(path == dir.path() + "/r0/verify.json");
    const auto nothing = load_verify_record(path);
    REQUIRE(nothing);
    CHECK_FALSE(*nothing);
    VerifyRecord record = some_record();
    REQUIRE(save_verify_record(path, record));
    auto loaded = load_verify_record(path);
    REQUIRE(loaded);
    CHECK(**loaded == record);
    record.position = 4 * GiB;
    REQUIRE(save_verify_record(path, record));
    loaded = load_verify_record(path);
    REQUIRE(loaded);
    CHECK(**loaded == record);
}

TEST_CASE("a file that is torn or garbled anywhere is noticed") {
    const test::TempDir dir;
    const std::string path = verify_record_path(dir.path(), "r0");
    REQUIRE(save_verify_record(path, some_record()));
    const std::string whole = read_file(path);
    for (std::size_t length = 0; length < whole.size(); ++length) {
        CAPTURE(length);
        write_file(path, whole.substr(0, length));
        const auto loaded = load_verify_record(path);
        REQUIRE_FALSE(loaded);
        CHECK(loaded.error().kind == ErrorKind::corrupt);
    }
    for (std::size_t i = 0; i < whole.size(); ++i) {
        CAPTURE(i);
        std::string garbled = whole;
        garbled[i] = static_cast<char>(garbled[i] ^ 4);
        write_file(path, garbled);
        // The one byte that nothing depends on is the space after the checksum.
        CHECK(load_verify_record(path).has_value() == (i == 8));
    }
    write_file(path, std::string(MiB, 'x'));
    CHECK_FALSE(load_verify_record(path));
}

TEST_CASE("a record that makes no sense is refused, whoever sends it") {
    const nlohmann::json good = encode(some_record());
    REQUIRE(decode_verify_record(good));
    for (const auto& item : good.items()) {
        const std::string key = item.key();
        CAPTURE(key);
        nlohmann::json bad = good;
        bad[key] = {1, "x"};
        CHECK_FALSE(decode_verify_record(bad));
    }
    for (const auto& entry : {std::pair("position_bytes", 11 * GiB),
                              {"mismatched_bytes", 11 * GiB},
                              {"repaired_bytes", 10 * GiB},
                              {"last_repaired_bytes", 5 * GiB}}) {
        CAPTURE(entry.first);
        nlohmann::json bad = good;
        bad[entry.first] = entry.second;
        CHECK_FALSE(decode_verify_record(bad));
    }
    nlohmann::json bad = good;
    bad["ranges"][0]["offset"] = ~std::uint64_t{0};
    CHECK_FALSE(decode_verify_record(bad));
    bad["ranges"] = nlohmann::json::array();
    for (std::size_t i = 0; i <= VerifyRecord::most_ranges; ++i) {
        bad["ranges"].push_back(good["ranges"][0]);
    }
    CHECK_FALSE(decode_verify_record(bad));
    CHECK_FALSE(decode_verify_record(nlohmann::json()));
}

TEST_CASE("more findings than are listed are counted") {
    VerifyRecord record;
    record.size = GiB;
    for (std::uint64_t i = 0; i < VerifyRecord::most_ranges + 5; ++i) {
        record.add({{i * 8192, 4096}, false, i % 2 == 0, {}});
    }
    CHECK(record.ranges.size() == VerifyRecord::most_ranges);
    CHECK(record.unlisted_ranges == 5);
    CHECK(record.mismatched_bytes == (VerifyRecord::most_ranges + 5) * 4096);
    CHECK(record.left_bytes() == VerifyRecord::most_ranges / 2 * 4096 + 2 * 4096);
}

TEST_CASE("the status says what is known and null for what is not") {
    const WallTime now = at("2026-03-01T12:30:05Z");
    const auto never = verify_status({}, now, std::nullopt);
    CHECK(never["state"] == "never");
    CHECK(never["age_seconds"].is_null());
    CHECK(never["last_finished"].is_null());
    const auto running = verify_status(some_record(), now, VerifyPace{64 * MiB, ""});
    CHECK(running["state"] == "running");
    CHECK(running["done_bytes"] == 3 * GiB);
    CHECK(running["total_bytes"] == 10 * GiB);
    CHECK(running["eta_seconds"] == 112);
    CHECK(running["waits_for"].is_null());
    CHECK(running["age_seconds"] == 28 * 24 * 3600);
    CHECK(running["ranges"].size() == 2);
    const auto waiting = verify_status(some_record(), now, VerifyPace{0, "beta is gone"});
    CHECK(waiting["waits_for"] == "beta is gone");
    CHECK(waiting["eta_seconds"].is_null());
}
