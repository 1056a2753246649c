// SPDX-License-Identifier: BSD-3-Clause
#include "pair_faults.hpp"

#include <charconv>

#include <fmt/format.h>

namespace mirror::test {
namespace {

constexpr std::array<std::string_view, incident_count> words{"network-lost",
                                                             "links-lost",
                                                             "late",
                                                             "late-then-lost",
                                                             "answer-lost",
                                                             "session-replaced",
                                                             "disk-error",
                                                             "disk-dies",
                                                             "metadata-error",
                                                             "standby-disk-error",
                                                             "standby-metadata-error",
                                                             "standby-dies",
                                                             "standby-loses-power",
                                                             "active-dies",
                                                             "active-loses-power"};

std::optional<Fault> parse_fault(std::string_view text) {
    const auto at = text.find('@');
    const auto hash = text.rfind('#');
    if (at == std::string_view::npos || hash == std::string_view::npos || hash < at) {
        return std::nullopt;
    }
    const auto event = parse_incident(text.substr(0, at));
    unsigned occurrence = 0;
    const std::string_view number = text.substr(hash + 1);
    const auto parsed = std::from_chars(number.data(), number.data() + number.size(), occurrence);
    if (!event || parsed.ptr != number.data() + number.size() || occurrence == 0) {
        return std::nullopt;
    }
    return Fault{*event, {std::string(text.substr(at + 1, hash - at - 1)), occurrence}};
}

}  // namespace

std::string_view to_string(Incident event) noexcept {
    return words[static_cast<std::size_t>(event)];
}

std::optional<Incident> parse_incident(std::string_view word) noexcept {
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] == word) {
            return static_cast<Incident>(i);
        }
    }
    return std::nullopt;
}

std::string to_string(const Fault& fault) {
    return fmt::format("{}@{}#{}", to_string(fault.event), fault.place.point,
                       fault.place.occurrence);
}

std::optional<std::vector<Fault>> parse_faults(std::string_view text) {
    std::vector<Fault> faults;
    while (!text.empty()) {
        const std::size_t comma = std::min(text.find(','), text.size());
        auto fault = parse_fault(text.substr(0, comma));
        if (!fault) {
            return std::nullopt;
        }
        faults.push_back(std::move(*fault));
        text.remove_prefix(std::min(comma + 1, text.size()));
    }
    return faults;
}

bool fits(Incident event, const std::string& point, bool after_late) {
    const bool here = point.starts_with("alpha");
    const bool done = point.starts_with("done") || point == "beta disk written" ||
                      point == "beta disk flushed" || point == "beta meta flushed";
    switch (event) {
        case Incident::late:
        case Incident::links_lost:
            return !here;
        case Incident::late_then_lost:
            return after_late;
        case Incident::answer_lost:
            return done;
        case Incident::session_replaced:
            return here;
        default:
            return true;
    }
}

}  // namespace mirror::test
