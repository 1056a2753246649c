// SPDX-License-Identifier: BSD-3-Clause
#include "tools/monitor_line.hpp"

#include <algorithm>
#include <vector>

#include "core/base/json.hpp"
#include "tools/progress.hpp"
#include "tools/terminal.hpp"
#include "tools/verdict.hpp"
#include "tools/verify_view.hpp"

namespace mirror::tools {
namespace {

/// The bar begins the figures, and a line ends the text.
std::string plain(std::string text) {
    text = printable(text);
    std::replace(text.begin(), text.end(), '|', '/');
    return text;
}

template <typename Number>
std::string number_or_unknown(const std::optional<Number>& value, const char* unit) {
    return value ? fmt::format("{}{}", *value, unit) : std::string("U");
}

std::optional<std::uint64_t> behind_of(const Json& volume) {
    std::optional<std::uint64_t> sum;
    for (const Json& peer : part_field(volume, "peers")) {
        const auto behind = count_field(peer, "behind_bytes");
        if (!behind) {
            return {};
        }
        sum = sum.value_or(0) + *behind;
    }
    return sum;
}

/// Percent; 100 where there is nothing to send.
std::optional<unsigned> resync_percent(const Json& volume) {
    if (const auto resync = resync_of(volume)) {
        return resync->percent();
    }
    return text_field(volume, "state") == "in-sync" ? std::optional(100U) : std::nullopt;
}

std::optional<std::uint64_t> differing_bytes(const Json& volume) {
    const Json& verify = verify_of(volume);
    return verify.is_object() ? std::optional(unrepaired_bytes(verify)) : std::nullopt;
}

std::string figures_of(const Json& volume) {
    const std::string name = plain(text_field(volume, "name"));
    return fmt::format(
        " '{0}_behind'={1};;;0 '{0}_rpo'={2};;;0 '{0}_media_errors'={3};;;0 "
        "'{0}_verify_differs'={4};;;0 '{0}_resync'={5};;;0;100",
        name, number_or_unknown(behind_of(volume), "B"),
        number_or_unknown(number_field(part_field(volume, "rpo"), "seconds"), "s"),
        number_or_unknown(count_field(part_field(volume, "replica"), "media_errors"), "c"),
        number_or_unknown(differing_bytes(volume), "B"),
        number_or_unknown(resync_percent(volume), "%"));
}

/// "r0 broken, writes are held: beta is away"; empty: nothing is wrong with it.
std::string complaint_about(const Json& volume) {
    std::string words;
    for (const Condition& condition : conditions_of(volume)) {
        if (condition.monitor != monitor_ok) {
            words += fmt::format("{}{}", words.empty() ? "" : ", ", condition.words);
        }
    }
    if (words.empty()) {
        return {};
    }
    const std::string why = text_field(volume, "why");
    return fmt::format("{} {}{}{}", text_field(volume, "name"), words, why.empty() ? "" : ": ",
                       why);
}

struct Finding {
    int code;
    std::string text;
};

/// What is wrong with the node rather than with a volume, of which the status tells more.
std::vector<std::string> node_problems(const Json& check) {
    const Json& of_volumes = part_field(check, "volume_problems");
    std::vector<std::string> found;
    for (const Json& problem : part_field(check, "problems")) {
        const bool is_of_volume =
            of_volumes.is_array() &&
            std::find(of_volumes.begin(), of_volumes.end(), problem) != of_volumes.end();
        if (problem.is_string() && !is_of_volume) {
            found.push_back(problem.get<std::string>());
        }
    }
    return found;
}

void add_check(const Result<Json>& check, int so_far, std::vector<Finding>& findings) {
    if (!check) {
        // Where something is known to be wrong already, that is the news.
        findings.push_back(
            {so_far == monitor_ok ? monitor_unknown : so_far,
             fmt::format("configuration and nodes not checked: {}", check.error().message)});
        return;
    }
    for (std::string& problem : node_problems(*check)) {
        findings.push_back({monitor_warning, std::move(problem)});
    }
}

std::string all_is_well(const Json& status) {
    const Json& volumes = part_field(status, "volumes");
    if (volumes.size() != 1) {
        return fmt::format("{} volumes in-sync", volumes.size());
    }
    const Json& volume = volumes.front();
    return fmt::format("{} in-sync, active on {}", text_field(volume, "name"),
                       active_node(volume, text_field(status, "node")));
}

MonitorLine line_of(int code, const std::string& text, const std::string& figures = {}) {
    return {code, fmt::format("MIRRORDISK {} - {}{}{}", monitor_word(code), plain(text),
                              figures.empty() ? "" : " |", figures)};
}

}  // namespace

MonitorLine monitor_unknown_line(const std::string& why) {
    return line_of(monitor_unknown, why);
}

MonitorLine monitor_line(const Result<Json>& status, const std::optional<Result<Json>>& check) {
    if (!status) {
        return monitor_unknown_line(status.error().text());
    }
    const Json& volumes = part_field(*status, "volumes");
    if (!volumes.is_array() || volumes.empty()) {
        return monitor_unknown_line("no volume has a replica on this node");
    }
    int code = monitor_ok;
    std::string figures;
    std::vector<Finding> findings;
    for (const Json& volume : volumes) {
        const int of_volume = monitor_code_of(volume);
        code = worse_code(code, of_volume);
        if (std::string words = complaint_about(volume); !words.empty()) {
            findings.push_back({of_volume, std::move(words)});
        }
        figures += figures_of(volume);
    }
    if (check) {
        add_check(*check, code, findings);
    }
    std::stable_sort(
        findings.begin(), findings.end(), [](const Finding& one, const Finding& other) {
            return one.code != other.code && worse_code(one.code, other.code) == one.code;
        });
    std::string text;
    for (const Finding& finding : findings) {
        code = worse_code(code, finding.code);
        text += fmt::format("{}{}", text.empty() ? "" : "; ", finding.text);
    }
    return line_of(code, text.empty() ? all_is_well(*status) : text, figures);
}

}  // namespace mirror::tools
