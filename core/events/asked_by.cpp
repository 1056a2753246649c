// SPDX-License-Identifier: BSD-3-Clause
#include "core/events/asked_by.hpp"

#include <utility>

#include "core/base/json.hpp"

namespace mirror {
namespace {

thread_local const AskedBy* asking = nullptr;

template <typename Json>
Json number_or_null(const std::optional<uid_t>& uid) {
    return uid ? Json(*uid) : Json();
}

}  // namespace

const AskedBy* AskedBy::current() noexcept {
    return asking;
}

AskedByScope::AskedByScope(AskedBy who) : who_(std::move(who)), before_(asking) {
    asking = &who_;
}

AskedByScope::~AskedByScope() {
    asking = before_;
}

nlohmann::ordered_json to_json(const AskedBy& who) {
    using Ordered = nlohmann::ordered_json;
    if (who.kind == AskedBy::Kind::local) {
        return {{"kind", "local"}, {"uid", number_or_null<Ordered>(who.uid)}};
    }
    return {{"kind", "node"},          {"node", who.node.empty() ? Ordered() : Ordered(who.node)},
            {"proven", who.is_proven}, {"key", who.key.empty() ? Ordered() : Ordered(who.key)},
            {"address", who.address},  {"for_uid", number_or_null<Ordered>(who.for_uid)}};
}

}  // namespace mirror
