// SPDX-License-Identifier: BSD-3-Clause
// What is remembered of the comparison of a volume's replicas: how far it is, what it found, and
// how the last one ended. It is about the pair, so the active keeps it in STATE_DIR/VOLUME/ and
// sends it to the standby, which keeps it too: it survives a crash of either and a switch.
//
// Values; any thread. One writer of a file at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/base/clock.hpp"
#include "core/base/id.hpp"
#include "core/base/units.hpp"

namespace mirror {

enum class VerifyState { never, running, stopped, finished };
[[nodiscard]] std::string_view to_string(VerifyState state) noexcept;

/// A run of blocks that differed, or that one of the disks could not read.
struct VerifyFinding {
    ByteRange range;
    bool unreadable = false;
    bool repaired = false;
    std::string cause{};  ///< of what is not repaired; not kept

    friend bool operator==(const VerifyFinding&, const VerifyFinding&) = default;
};

struct VerifyRecord {
    /// More findings are counted, and not listed.
    static constexpr std::size_t most_ranges = 64;

    VolumeId volume;
    std::uint64_t size = 0;
    VerifyState state = VerifyState::never;
    std::string source;  ///< the node whose blocks a repair sends: the active that was asked
    bool repair = false;
    std::optional<std::uint64_t> rate;  ///< asked for; else the configuration's
    WallTime started_at{};
    std::uint64_t position = 0;  ///< everything before it is compared
    std::uint64_t mismatched_bytes = 0;
    std::uint64_t repaired_bytes = 0;
    std::vector<VerifyFinding> ranges{};
    std::uint64_t unlisted_ranges = 0;

    WallTime last_finished{};  ///< epoch: never
    std::uint64_t last_mismatched_bytes = 0;
    std::uint64_t last_repaired_bytes = 0;

    void add(const VerifyFinding& finding);
    [[nodiscard]] std::uint64_t left_bytes() const noexcept {
        return mismatched_bytes - repaired_bytes;
    }
    /// Known to differ: of the last whole comparison, too, while another one has not got there yet.
    [[nodiscard]] std::uint64_t unrepaired_bytes() const noexcept {
        return std::max(left_bytes(), last_mismatched_bytes - last_repaired_bytes);
    }
    friend bool operator==(const VerifyRecord&, const VerifyRecord&) = default;
};

[[nodiscard]] nlohmann::json encode(const VerifyRecord& record);
[[nodiscard]] Result<VerifyRecord> decode_verify_record(const nlohmann::json& json);

/// STATE_DIR/VOLUME/verify.json
[[nodiscard]] std::string verify_record_path(const std::string& state_dir,
                                             const std::string& volume);
/// Replaces the file as a whole; durable when it returns.
[[nodiscard]] Result<void> save_verify_record(const std::string& path, const VerifyRecord& record);
/// Nothing when there is no file; `corrupt` when it is not what was written.
[[nodiscard]] Result<std::optional<VerifyRecord>> load_verify_record(const std::string& path);

/// What is only known while it runs.
struct VerifyPace {
    std::uint64_t bytes_per_second = 0;
    std::string waits_for{};  ///< why it does not go on at the moment; empty: it does
};
/// `peers[].verify` of the status.
[[nodiscard]] nlohmann::json verify_status(const VerifyRecord& record, WallTime now,
                                           const std::optional<VerifyPace>& pace);

}  // namespace mirror
