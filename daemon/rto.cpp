// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/rto.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>

#include "core/base/log.hpp"

namespace mirror::daemon {
namespace {

std::string rto_path(const NodeConfig& node, const std::string& volume) {
    return node.state_dir + "/" + volume + "/rto.json";
}

double rounded_seconds(SteadyTime::duration time) {
    return std::round(std::chrono::duration<double>(time).count() * 1000) / 1000;
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
    const std::string fresh = path + ".new";
    const Json content = {{"seconds", watch.seconds()}, {"phases", watch.phases()}};
    std::ofstream file(fresh, std::ios::trunc);
    file << content.dump() << '\n';
    file.close();
    if (!file || std::rename(fresh.c_str(), path.c_str()) != 0) {
        log(LogLevel::warning, "{} could not be written", path);
    }
}

Json read_rto(const NodeConfig& node, const std::string& volume) {
    std::ifstream file(rto_path(node, volume));
    Json content = file ? Json::parse(file, nullptr, false) : Json();
    return content.is_object() ? content : Json();
}

}  // namespace mirror::daemon
