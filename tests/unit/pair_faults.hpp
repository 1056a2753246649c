// SPDX-License-Identifier: BSD-3-Clause
// What may happen to a mirrored pair while somebody waits, and where: for mirror_pairs_test.cpp.
// Values.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mirror::test {

enum class Incident {
    network_lost,      ///< all connections end, none is let in; what arrived is carried out later
    links_lost,        ///< those of the data end; the answer to this comes after the next requests
    late,              ///< the answer comes after every timeout
    late_then_lost,    ///< what is late gets its answer now; then the network is lost
    answer_lost,       ///< done, and an error takes the place of the answer
    session_replaced,  ///< the session ends and another one begins before the wait is over
    disk_error,        ///< of the active, once
    disk_dies,         ///< of the active, until it is mended
    metadata_error,    ///< of the active, once
    standby_disk_error,
    standby_metadata_error,
    standby_dies,         ///< and starts again
    standby_loses_power,  ///< with all that was not flushed
    active_dies,
    active_loses_power,
};
inline constexpr std::size_t incident_count = 15;

[[nodiscard]] std::string_view to_string(Incident event) noexcept;
[[nodiscard]] std::optional<Incident> parse_incident(std::string_view word) noexcept;

/// One passing of a point: "ask generation", "alpha disk writing"; counted from 1 since the start
/// or since the fault before.
struct Place {
    std::string point;
    unsigned occurrence = 1;

    friend bool operator==(const Place&, const Place&) = default;
};

struct Fault {
    Incident event = Incident::network_lost;
    Place place;
};

/// "late@ask generation#1"
[[nodiscard]] std::string to_string(const Fault& fault);
/// Faults as above, with commas between them.
[[nodiscard]] std::optional<std::vector<Fault>> parse_faults(std::string_view text);

/// Whether the event means something at that point that another one does not.
[[nodiscard]] bool fits(Incident event, const std::string& point, bool after_late);

}  // namespace mirror::test
