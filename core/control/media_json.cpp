// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/media_json.hpp"

#include "core/base/json.hpp"

namespace mirror::control {

Json encode(const MediaLog::View& media) {
    Json ranges = Json::array();
    for (const MediaLog::Entry& entry : media.entries) {
        const MediaError& error = entry.error;
        const bool has_range = !error.range.empty();
        ranges.push_back({{"operation", to_string(error.operation)},
                          {"offset_bytes", has_range ? Json(error.range.offset) : Json()},
                          {"length_bytes", has_range ? Json(error.range.length) : Json()},
                          {"action", to_string(error.action)},
                          {"timed_out", error.timed_out},
                          {"count", entry.count},
                          {"last", format_rfc3339(entry.last)}});
    }
    return {{"read_errors", media.read_errors},
            {"write_errors", media.write_errors},
            {"timeouts", media.timeouts},
            {"repaired", media.repaired},
            {"ranges", ranges}};
}

}  // namespace mirror::control
