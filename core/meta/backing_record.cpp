// SPDX-License-Identifier: BSD-3-Clause
#include "core/meta/backing_record.hpp"

#include <fmt/format.h>

namespace mirror {

BackingVerdict judge_backing(const Superblock& block, const std::string& identity,
                             std::uint64_t mark) {
    if (block.backing_identity.empty()) {
        return BackingVerdict::first_seen;
    }
    if (block.backing_identity != identity) {
        return BackingVerdict::another;
    }
    const bool touched = block.backing_mark != 0 && block.backing_mark != mark;
    return touched ? BackingVerdict::touched : BackingVerdict::as_left;
}

std::string describe_verdict(BackingVerdict verdict, const Superblock& block,
                             const std::string& path, const std::string& identity) {
    switch (verdict) {
        case BackingVerdict::touched:
            return fmt::format("{} was changed by another program since it was closed", path);
        case BackingVerdict::another:
            return fmt::format(
                "{} is not the file or disk that the replica was on (it is {}, and was {})", path,
                identity.empty() ? "one without an identity" : identity, block.backing_identity);
        default:
            return fmt::format("{} is as it was left", path);
    }
}

void adopt_backing(Superblock& block, const std::string& identity, bool doubtful) {
    block.backing_identity = identity;
    block.backing_mark = 0;
    if (doubtful) {
        block.doubtful = true;
        block.steps = first_steps;
    }
}

void open_backing(Superblock& block) {
    block.backing_mark = 0;
}

void close_backing(Superblock& block, std::uint64_t mark) {
    block.backing_mark = mark;
}

}  // namespace mirror
