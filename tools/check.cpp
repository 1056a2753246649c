// SPDX-License-Identifier: BSD-3-Clause
#include <cmath>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/config/control_group.hpp"
#include "tools/table.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {
namespace {

std::string yes_or_no(std::optional<bool> value) {
    if (!value) {
        return "unknown";
    }
    return *value ? "yes" : "no";
}

bool is_reachable(const Json& node) {
    return bool_field(node, "reachable").value_or(false);
}

/// The uncertainty is told where it could be mistaken for a wrong clock.
std::string clock_cell(const Json& node) {
    constexpr double worth_telling = 0.05;  // seconds
    const auto skew = number_field(node, "clock_skew_seconds");
    if (!skew) {
        return "-";
    }
    const double uncertainty = number_field(node, "clock_uncertainty_seconds").value_or(0);
    return uncertainty < worth_telling ? fmt::format("{:+.1f} s", *skew)
                                       : fmt::format("{:+.1f} s (+-{:.1f})", *skew, uncertainty);
}

Row node_row(const Json& node) {
    const bool reachable = is_reachable(node);
    const auto same = bool_field(node, "same_config");
    return {{text_field(node, "node"), Style::bold},
            {text_field(node, "address")},
            {yes_or_no(reachable), reachable ? Style::good : Style::bad},
            {text_field(node, "version").empty() ? "-" : text_field(node, "version")},
            {clock_cell(node)},
            {reachable ? yes_or_no(same) : "-", same.value_or(true) ? Style::plain : Style::bad},
            {text_field(node, "message")}};
}

void print_nodes(const Json& nodes, World& world) {
    std::vector<Row> rows{{{"NODE", Style::dim},
                           {"ADDRESS", Style::dim},
                           {"REACHABLE", Style::dim},
                           {"VERSION", Style::dim},
                           {"CLOCK", Style::dim},
                           {"SAME CONFIG", Style::dim}}};
    for (const Json& node : nodes) {
        rows.push_back(node_row(node));
    }
    world.out << format_table(rows, world.terminal);
}

void print_sentences(const char* label, Style style, const Json& sentences, World& world) {
    for (const Json& sentence : sentences) {
        if (sentence.is_string()) {
            world.out << fmt::format("{} {}\n", world.terminal.paint(style, label),
                                     printable(sentence.get_ref<const std::string&>()));
        }
    }
}

std::string protection_words(const Json& link) {
    const Json& tls = part_field(link, "tls");
    if (!tls.is_object()) {
        return "not encrypted";
    }
    const std::string key = text_field(tls, "key");
    const std::string proof =
        key.empty()
            ? fmt::format("certificate of {}", text_field(tls, "certificate"))
            : fmt::format("key {}{}", key,
                          bool_field(link, "is_current").value_or(true) ? "" : " (the old one)");
    return fmt::format("TLS 1.3, {}, {}", text_field(tls, "cipher"), proof);
}

void print_links(const Json& links, World& world) {
    for (const Json& link : links) {
        const std::string volume = text_field(link, "volume");
        world.out << fmt::format(
            "link {} to {}, {}: {}\n", text_field(link, "from"), text_field(link, "to"),
            volume.empty() ? "control" : "volume " + volume, protection_words(link));
    }
}

int code_of(const Json& answer) {
    if (!part_field(answer, "problems").empty()) {
        return exit_refused;
    }
    for (const Json& node : part_field(answer, "nodes")) {
        if (!is_reachable(node)) {
            return exit_unknown;
        }
    }
    return exit_done;
}

}  // namespace

int check(Session& session) {
    if (session.options.nagios) {
        return check_for_monitor(session);
    }
    World& world = session.world;
    // Whoever runs a verb has parsed the configuration already: it is known to be right here, but
    // for what only this machine knows. mirrord may have read an older one.
    if (const auto config = load_config(session.config_path)) {
        if (const auto group = find_control_group(*config); !group) {
            return report(group.error(), session.options, world);
        }
    }
    if (!session.options.json) {
        world.out << fmt::format("configuration {}: no mistakes\n", session.config_path);
    }
    const auto answer =
        session.client.ask({{"request", "check"}}, patience_of(session.options, query_deadline));
    if (!answer) {
        return report(answer.error(), session.options, world);
    }
    if (session.options.json) {
        print_json(*answer, world);
        return code_of(*answer);
    }
    print_nodes(part_field(*answer, "nodes"), world);
    print_links(part_field(*answer, "links"), world);
    print_sentences("warning:", Style::warning, part_field(*answer, "warnings"), world);
    print_sentences("problem:", Style::bad, part_field(*answer, "problems"), world);
    const int code = code_of(*answer);
    if (code == exit_done) {
        world.out << "no problems\n";
    }
    return code;
}

int version(Session& session) {
    World& world = session.world;
    const auto answer = session.client.ask({{"request", "version"}}, query_deadline);
    if (session.options.json) {
        if (!answer) {
            return report(answer.error(), session.options, world);
        }
        Json document = *answer;
        document["mirrorctl"] = MIRROR_VERSION;
        print_json(document, world);
        return exit_done;
    }
    world.out << "mirrorctl " MIRROR_VERSION "\n";
    if (!answer) {
        return report(answer.error(), session.options, world);
    }
    world.out << fmt::format("mirrord {} (node {}, protocol {})\n", text_field(*answer, "version"),
                             text_field(*answer, "node"),
                             count_field(*answer, "protocol").value_or(0));
    return exit_done;
}

}  // namespace mirror::tools
