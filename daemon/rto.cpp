// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/rto.hpp"

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/base/put_file.hpp"
#include "core/base/trusted_file.hpp"
#include "core/control/json_text.hpp"

namespace mirror::daemon {
namespace {

/// Many times what the phases of a promotion take.
constexpr std::size_t longest_file = 16384;

std::string rto_path(const NodeConfig& node, const std::string& volume) {
    return node.state_dir + "/" + volume + "/rto.json";
}

}  // namespace

void Stopwatch::end_phase(const std::string& name) {
    const SteadyTime now = clock_.steady_now();
    phases_[name] = rounded_seconds(now - phase_);
    phase_ = now;
}

double Stopwatch::seconds() const {
    return rounded_seconds(clock_.steady_now() - begin_);
}

void write_rto(const NodeConfig& node, const std::string& volume, const Stopwatch& watch) {
    const std::string path = rto_path(node, volume);
    const Json content = {{"seconds", watch.seconds()}, {"phases", watch.phases()}};
    if (auto put = put_file(path, content.dump() + "\n", 0600); !put) {
        log(LogLevel::warning, "{}", put.error().text());
    }
}

Json read_rto(const NodeConfig& node, const std::string& volume) {
    const auto text = read_own_file(rto_path(node, volume), longest_file);
    Json content = text ? control::parse_shallow(*text) : Json();
    return content.is_object() ? content : Json();
}

}  // namespace mirror::daemon
