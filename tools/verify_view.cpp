// SPDX-License-Identifier: BSD-3-Clause
#include "tools/verify_view.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"

namespace mirror::tools {
namespace {

/// More ranges than these are for --json.
constexpr std::size_t shown_ranges = 10;

std::uint64_t bytes(const Json& verify, const char* key) {
    return count_field(verify, key).value_or(0);
}

std::string finding_words(std::uint64_t mismatched, std::uint64_t repaired) {
    if (mismatched == 0) {
        return "equal";
    }
    const std::uint64_t left = mismatched - std::min(mismatched, repaired);
    if (left == 0) {
        return fmt::format("{} differed and were repaired", format_size(mismatched));
    }
    return repaired == 0 ? fmt::format("{} differ", format_size(left))
                         : fmt::format("{} differ, {} were repaired", format_size(left),
                                       format_size(repaired));
}

std::string last_words(const Json& verify, WallTime now) {
    const auto finished = time_field(verify, "last_finished");
    if (!finished) {
        return "never finished";
    }
    return fmt::format("{}: {}", format_when(*finished, now),
                       finding_words(bytes(verify, "last_mismatched_bytes"),
                                     bytes(verify, "last_repaired_bytes")));
}

std::string range_lines(const Json& verify) {
    std::string text;
    std::size_t shown = 0;
    std::uint64_t more = bytes(verify, "unlisted_ranges");
    for (const Json& range : part_field(verify, "ranges")) {
        if (bool_field(range, "repaired").value_or(false)) {
            continue;
        }
        if (shown++ >= shown_ranges) {
            ++more;
            continue;
        }
        const bool unreadable = bool_field(range, "unreadable").value_or(false);
        text += fmt::format("  {} at offset {}{}\n", format_size(bytes(range, "length")),
                            bytes(range, "offset"), unreadable ? ": could not be read" : "");
    }
    return more == 0 ? text : text + fmt::format("  and {} more\n", more);
}

}  // namespace

const Json& verify_of(const Json& volume) {
    static const Json nothing;
    for (const Json& peer : part_field(volume, "peers")) {
        const Json& verify = part_field(peer, "verify");
        if (verify.is_object()) {
            return verify;
        }
    }
    return nothing;
}

Progress verify_progress(const Json& verify) {
    return {bytes(verify, "done_bytes"), bytes(verify, "total_bytes"),
            number_field(verify, "bytes_per_second"), number_field(verify, "eta_seconds")};
}

std::uint64_t bytes_left(const Json& verify) {
    const std::uint64_t mismatched = bytes(verify, "mismatched_bytes");
    return mismatched - std::min(mismatched, bytes(verify, "repaired_bytes"));
}

std::uint64_t unrepaired_bytes(const Json& verify) {
    return bytes(verify, "unrepaired_bytes");
}

std::string verify_words(const Json& verify, const std::string& volume, WallTime now) {
    const std::string state = text_field(verify, "state");
    if (state == "running") {
        const std::string found = bytes(verify, "mismatched_bytes") == 0
                                      ? ""
                                      : ", " + finding_words(bytes(verify, "mismatched_bytes"),
                                                             bytes(verify, "repaired_bytes"));
        const std::string waits = text_field(verify, "waits_for");
        return waits.empty() ? progress_words(verify_progress(verify)) + found
                             : fmt::format("{} %{}; waits: {}", verify_progress(verify).percent(),
                                           found, waits);
    }
    if (state == "stopped") {
        return fmt::format("stopped at {} % (mirrorctl verify {} resumes there); last {}",
                           verify_progress(verify).percent(), volume, last_words(verify, now));
    }
    if (state == "finished") {
        const std::string words = last_words(verify, now);
        return bytes_left(verify) == 0
                   ? words
                   : fmt::format("{}; which node's disk is bad? then mirrorctl verify {} --repair",
                                 words, volume);
    }
    return state == "never" ? "never" : "unknown";
}

std::string verify_verdict(const Json& verify, const std::string& volume) {
    const std::uint64_t left = bytes_left(verify);
    const std::string size = format_size(bytes(verify, "total_bytes"));
    if (text_field(verify, "state") != "finished") {
        return fmt::format("{}: the comparison was stopped at {} %\n", volume,
                           verify_progress(verify).percent());
    }
    if (bytes(verify, "mismatched_bytes") == 0) {
        return fmt::format("{}: all {} are equal on both nodes\n", volume, size);
    }
    const std::string words =
        finding_words(bytes(verify, "mismatched_bytes"), bytes(verify, "repaired_bytes"));
    std::string text = fmt::format("{}: of {}, {}\n", volume, size, words) + range_lines(verify);
    if (left != 0) {
        text += fmt::format(
            "{0}: to copy the active node's blocks to the standby: mirrorctl verify {0} --repair; "
            "if the active node's disk is the bad one, switch first\n",
            volume);
    }
    return text;
}

}  // namespace mirror::tools
