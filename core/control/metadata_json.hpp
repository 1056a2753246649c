// SPDX-License-Identifier: BSD-3-Clause
// What is to be said of a metadata file beside what it holds: whether it has the space that it may
// need, and what of its maps was damaged. In the status of engine and mirrord alike. Pure; any
// thread.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "core/events/event_log.hpp"
#include "core/meta/meta_file.hpp"

namespace mirror::control {

[[nodiscard]] nlohmann::json encode_health(const MetaFile& meta);

/// The event of damaged map sectors: without it a comparison of gigabytes would have no reason.
[[nodiscard]] Event damaged_metadata(const std::string& volume, const std::string& node,
                                     const MetaFile::Damage& damage);

}  // namespace mirror::control
