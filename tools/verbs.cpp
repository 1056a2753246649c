// SPDX-License-Identifier: BSD-3-Clause
#include "tools/verbs.hpp"

#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace mirror::tools {
namespace {

using Verb = int (*)(Session&);

constexpr std::array<std::pair<std::string_view, Verb>, 21> verbs{{
    {"create", create},
    {"status", status},
    {"promote", promote},
    {"demote", demote},
    {"switch", switch_roles},
    {"connect", connect},
    {"disconnect", disconnect},
    {"resync", resync},
    {"verify", verify},
    {"resolve", resolve},
    {"undo", undo},
    {"attach", attach},
    {"detach", detach},
    {"restart-engine", restart_engine},
    {"resize", resize},
    {"wait", wait},
    {"events", events},
    {"keygen", keygen},
    {"reload", reload},
    {"check", check},
    {"version", version},
}};

}  // namespace

int run_verb(Session& session) {
    for (const auto& [name, verb] : verbs) {
        if (name == session.options.verb) {
            return verb(session);
        }
    }
    session.world.err << fmt::format("mirrorctl: no verb '{}'\n", session.options.verb);
    return exit_usage;
}

}  // namespace mirror::tools
