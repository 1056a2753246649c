// SPDX-License-Identifier: BSD-3-Clause
// Who carries out a request, and with what of its JSON. Who may ask for it, and where, was judged
// before: daemon/requests.hpp. Called by the threads of connections.
#pragma once

#include <string_view>

#include "daemon/audience.hpp"
#include "daemon/keepers.hpp"

namespace mirror::daemon {

using VolumeHandler = Result<Json> (*)(VolumeKeeper&, const Json&, const Asking&);

/// Of a request about one volume; null: nobody carries it out.
[[nodiscard]] VolumeHandler handler_of(std::string_view request);

[[nodiscard]] Result<Json> demote_all_as_asked(const Keepers& keepers, const Context& context,
                                               const Json& request);

}  // namespace mirror::daemon
