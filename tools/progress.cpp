// SPDX-License-Identifier: BSD-3-Clause
#include "tools/progress.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "tools/terminal.hpp"

namespace mirror::tools {
namespace {

void add(Progress& sum, const Json& resync) {
    sum.done_bytes += count_field(resync, "done_bytes").value_or(0);
    sum.total_bytes += count_field(resync, "total_bytes").value_or(0);
    if (const auto rate = number_field(resync, "bytes_per_second")) {
        sum.bytes_per_second = sum.bytes_per_second.value_or(0) + *rate;
    }
    if (const auto eta = number_field(resync, "eta_seconds")) {
        sum.eta_seconds = std::max(sum.eta_seconds.value_or(0), *eta);
    }
}

}  // namespace

unsigned Progress::percent() const noexcept {
    if (done_bytes >= total_bytes) {
        return 100;
    }
    const double share = static_cast<double>(done_bytes) / static_cast<double>(total_bytes);
    return std::min(99U, static_cast<unsigned>(share * 100));
}

std::optional<Progress> resync_of(const Json& volume) {
    std::optional<Progress> sum;
    for (const Json& peer : part_field(volume, "peers")) {
        const Json& resync = part_field(peer, "resync");
        if (resync.is_object()) {
            sum = sum.value_or(Progress{});
            add(*sum, resync);
        }
    }
    return sum;
}

std::string progress_words(const Progress& progress) {
    std::string text = fmt::format("{} %, {} of {}", progress.percent(),
                                   format_size(std::min(progress.done_bytes, progress.total_bytes)),
                                   format_size(progress.total_bytes));
    constexpr double limit = 1e18;
    if (progress.bytes_per_second && *progress.bytes_per_second >= 1 &&
        *progress.bytes_per_second < limit) {
        text += fmt::format(", {}/s",
                            format_size(static_cast<std::uint64_t>(*progress.bytes_per_second)));
    }
    if (progress.percent() < 100) {
        text += progress.eta_seconds
                    ? fmt::format(", {} left", format_seconds(*progress.eta_seconds))
                    : std::string(", time left unknown");
    }
    return text;
}

std::string progress_bar(const Progress& progress, std::size_t width) {
    constexpr std::size_t widest = 40;
    constexpr std::size_t narrowest = 10;
    const std::string words = progress_words(progress);
    const std::size_t taken = display_width(words) + 3;
    const std::size_t room = width > taken ? width - taken : 0;
    const std::size_t cells = std::clamp(room, narrowest, widest);
    const std::size_t full = cells * progress.percent() / 100;
    std::string bar(full, '=');
    if (full < cells) {
        bar += '>';
    }
    bar.resize(cells, ' ');
    return fmt::format("[{}] {}", bar, words);
}

std::optional<std::string> ChangeLines::next(const Json& volume) {
    const std::string state = text_field(volume, "state");
    const std::string why = text_field(volume, "why");
    const std::optional<Progress> resync = resync_of(volume);
    std::optional<unsigned> tenth;
    if (resync) {
        tenth = resync->percent() / 10;
    }
    // While a resync runs its sentence may carry numbers; the tenths speak for it.
    const bool same = state == state_ && tenth == tenth_ && (resync || why == why_);
    if (same) {
        return std::nullopt;
    }
    state_ = state;
    why_ = why;
    tenth_ = tenth;
    const std::string name = text_field(volume, "name");
    if (resync) {
        return fmt::format("{}: {}: {}", name, state, progress_words(*resync));
    }
    return why.empty() ? fmt::format("{}: {}", name, state)
                       : fmt::format("{}: {}: {}", name, state, why);
}

}  // namespace mirror::tools
