// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/lock_holder.hpp"

#include <fstream>
#include <sys/sysmacros.h>

#include <fmt/format.h>

namespace mirror {
namespace {

long holder_of(const std::string& file) {
    std::ifstream locks("/proc/locks");
    std::string number;
    std::string kind;
    std::string rest;
    while (locks >> number >> kind) {
        std::string advisory;
        std::string access;
        std::string where;
        long pid = 0;
        if (kind == "FLOCK" && locks >> advisory >> access >> pid >> where && where == file) {
            return pid;
        }
        std::getline(locks, rest);
    }
    return 0;
}

}  // namespace

LockHolder lock_holder(const struct stat& file) {
    LockHolder holder{.pid = holder_of(fmt::format("{:02x}:{:02x}:{}", major(file.st_dev),
                                                   minor(file.st_dev), file.st_ino))};
    if (holder.pid <= 0) {
        return {};
    }
    const std::string process = fmt::format("/proc/{}", holder.pid);
    std::ifstream name(process + "/comm");
    std::getline(name, holder.program);
    struct stat found {};
    if (::stat(process.c_str(), &found) == 0) {
        holder.user = fmt::format("{}", found.st_uid);
    }
    return holder;
}

}  // namespace mirror
