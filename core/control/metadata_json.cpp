// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/metadata_json.hpp"

#include "core/base/json.hpp"

namespace mirror::control {

nlohmann::json encode_health(const MetaFile& meta) {
    using Json = nlohmann::json;
    const MetaFile::Damage damage = meta.damage();
    const auto unreserved = meta.unreserved();
    return {{"reserved", !unreserved},
            {"why", unreserved ? Json(unreserved->text()) : Json()},
            {"damaged_sectors", damage.sectors},
            {"damaged_bytes", damage.bytes}};
}

Event damaged_metadata(const std::string& volume, const std::string& node,
                       const MetaFile::Damage& damage) {
    return {.id = "metadata-damaged",
            .severity = Severity::warning,
            .volume = volume,
            .text = fmt::format(
                "{} sector{} of the metadata of {} on {} can't be read or fail{} the check; "
                "because of that up to {} are treated as different and compared with the peer",
                damage.sectors, damage.sectors == 1 ? "" : "s", volume, node,
                damage.sectors == 1 ? "s" : "", format_size(damage.bytes)),
            .cause = "a bad disk under STATE_DIR, or another program wrote to the file",
            .remedy = "check the error counters of the disk under STATE_DIR"};
}

}  // namespace mirror::control
