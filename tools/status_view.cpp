// SPDX-License-Identifier: BSD-3-Clause
#include "tools/status_view.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "tools/gaps_view.hpp"
#include "tools/media_words.hpp"
#include "tools/progress.hpp"
#include "tools/silent_nodes.hpp"
#include "tools/split_brain_view.hpp"
#include "tools/table.hpp"
#include "tools/verdict.hpp"
#include "tools/verify_view.hpp"

namespace mirror::tools {
namespace {

struct StateWords {
    std::string_view state;
    std::string_view words;  ///< added where the word alone does not say it
    Style style;
};

constexpr std::array<StateWords, 8> known_states{{
    {"in-sync", "", Style::good},
    {"resyncing", "", Style::warning},
    {"broken", "standby behind", Style::warning},
    {"starting", "the engine is not ready yet", Style::warning},
    {"new", "never filled", Style::warning},
    {"peer-unknown", "active not reachable", Style::warning},
    {"diverged", "split brain", Style::bad},
    {"failed", "no usable replica here", Style::bad},
}};

StateWords words_of(const std::string& state) {
    const auto* found = std::find_if(known_states.begin(), known_states.end(),
                                     [&](const StateWords& known) { return known.state == state; });
    // A state of a newer daemon: shown as it is, and never taken for good.
    return found == known_states.end() ? StateWords{"", "", Style::warning} : *found;
}

Style replica_style(const std::string& state) {
    if (state == "up-to-date") {
        return Style::good;
    }
    return state == "failed" ? Style::bad : Style::warning;
}

std::string or_unknown(std::string text) {
    return text.empty() ? "unknown" : std::move(text);
}

/// A volume that serves nobody is no healthy one, however equal its replicas are.
bool serves_nobody(const Json& volume) {
    return text_field(volume, "state") == "in-sync" && is_active_nowhere(volume);
}

std::string activity(const Json& volume, const std::string& node) {
    const std::string active = active_node(volume, node);
    if (active.empty()) {
        return is_activity_known(volume) ? "active nowhere" : "standby, active side unknown";
    }
    return fmt::format("active on {}{}", active, active == node ? " (this node)" : "");
}

std::string bytes_or_unknown(const Json& object, const char* key) {
    const auto bytes = count_field(object, key);
    return bytes ? format_size(*bytes) : "unknown";
}

std::string verdict_line(const Json& volume, const std::string& node, const ViewContext& context) {
    const std::string state = text_field(volume, "state");
    const StateWords words = words_of(state);
    std::string shown = or_unknown(state);
    if (!words.words.empty()) {
        shown += fmt::format(" ({})", words.words);
    }
    std::string line =
        fmt::format("{}  {}  {}", context.terminal.paint(Style::bold, text_field(volume, "name")),
                    context.terminal.paint(words.style, shown), activity(volume, node));
    if (const auto since = time_field(volume, "since")) {
        line += fmt::format("  since {}", format_when(*since, context.now));
    }
    return line + '\n';
}

std::string volume_words(const Json& volume) {
    std::string text = fmt::format("{}, mode {}", bytes_or_unknown(volume, "size_bytes"),
                                   or_unknown(text_field(volume, "mode")));
    const std::string device = text_field(volume, "device");
    text += device.empty() ? ", no device" : ", " + device;
    if (const std::string mounted = text_field(volume, "mounted_on"); !mounted.empty()) {
        text += " on " + mounted;
    }
    const std::string state = text_field(volume, "device_state");
    if (text_field(volume, "role") == "active" && !state.empty() && state != "attached") {
        text += fmt::format(" ({})", state);
    }
    const std::string generation = text_field(volume, "generation");
    if (!generation.empty()) {
        text += ", generation " + generation.substr(0, 8);
    }
    return text;
}

std::string here_words(const Json& replica) {
    std::string text = or_unknown(text_field(replica, "backing"));
    const std::uint64_t errors = count_field(replica, "media_errors").value_or(0);
    if (errors > 0) {
        text += fmt::format(", {} media error{}", errors, errors == 1 ? "" : "s");
    }
    return text;
}

/// After a crash both have every acknowledged write, and what was in flight is compared.
bool has_to_compare_only(const Json& volume) {
    return count_field(part_field(volume, "rpo"), "bytes") == std::uint64_t{0};
}

std::string behind_words(const Json& volume, const Json& peer) {
    const auto behind = count_field(peer, "behind_bytes");
    if (!behind) {
        return "lag unknown";
    }
    return *behind != 0 && has_to_compare_only(volume)
               ? fmt::format("{} to compare", format_size(*behind))
               : fmt::format("{} behind", format_size(*behind));
}

std::string peer_words(const Json& volume, const Json& peer, const ViewContext& context) {
    std::string text = fmt::format("link {}, {}", or_unknown(text_field(peer, "link")),
                                   behind_words(volume, peer));
    if (const auto broken = time_field(peer, "break_at")) {
        text += fmt::format(", broken at {}", format_when(*broken, context.now));
    }
    const auto seen = time_field(peer, "last_seen");
    text += seen ? fmt::format(", seen {}", format_when(*seen, context.now)) : ", never connected";
    return text;
}

Row side_row(const char* label, const std::string& node, const std::string& role,
             const std::string& state, const std::string& words) {
    return {{label, Style::dim},
            {or_unknown(node)},
            {or_unknown(role)},
            {or_unknown(state), replica_style(state)},
            {words}};
}

std::string side_lines(const Json& volume, const std::string& node, const ViewContext& context) {
    const Json& replica = part_field(volume, "replica");
    std::vector<Row> rows{side_row("here  ", node, text_field(volume, "role"),
                                   text_field(replica, "state"), here_words(replica))};
    for (const Json& peer : part_field(volume, "peers")) {
        rows.push_back(side_row("peer", text_field(peer, "node"), text_field(peer, "role"),
                                text_field(peer, "replica_state"),
                                peer_words(volume, peer, context)));
    }
    return format_table(rows, context.terminal, "  ");
}

std::string loss_words(const Json& volume, const std::string& node) {
    const Json& rpo = part_field(volume, "rpo");
    const auto seconds = number_field(rpo, "seconds");
    const auto bytes = count_field(rpo, "bytes");
    if (!seconds || !bytes) {
        return "unknown";
    }
    const std::string active = active_node(volume, node);
    const std::string who = active.empty() ? "the active node" : active;
    if (serves_nobody(volume)) {
        return "0 s: neither node is active, and both have the same data";
    }
    if (*seconds <= 0 && *bytes == 0) {
        return fmt::format("0 s: nothing would be lost if {} died now", who);
    }
    return fmt::format("{}, {}: written without the peer; would be lost if {} died now",
                       format_seconds(*seconds), format_size(*bytes), who);
}

std::string takeover_words(const Json& rto) {
    std::string text = format_seconds(number_field(rto, "seconds").value_or(-1));
    text += " at the last takeover";
    std::string phases;
    const Json& parts = part_field(rto, "phases");
    if (parts.is_object()) {
        for (const auto& [name, seconds] : parts.items()) {
            if (seconds.is_number()) {
                phases += fmt::format("{}{} {}", phases.empty() ? "" : ", ", printable(name),
                                      format_seconds(seconds.get<double>()));
            }
        }
    }
    return phases.empty() ? text : fmt::format("{} ({})", text, phases);
}

std::string labelled(const char* label, const std::string& text, const Terminal& terminal) {
    return fmt::format("  {}  {}\n", terminal.paint(Style::dim, fmt::format("{:<6}", label)), text);
}

std::string resync_line(const Json& volume, const ViewContext& context) {
    constexpr std::size_t label_width = 10;
    const auto resync = resync_of(volume);
    if (!resync) {
        return {};
    }
    const std::size_t width = std::max(context.terminal.width, label_width) - label_width;
    return labelled(
        "resync", context.terminal.is_tty ? progress_bar(*resync, width) : progress_words(*resync),
        context.terminal);
}

Json warnings_of(const Json& volume) {
    const Json& warnings = part_field(volume, "warnings");
    return warnings.is_array() ? warnings : Json::array();
}

std::string text_of(const Json& warning) {
    return warning.is_string() ? printable(warning.get_ref<const std::string&>()) : std::string();
}

std::string active_column(const Json& volume, const std::string& node) {
    const std::string active = active_node(volume, node);
    if (!active.empty()) {
        return active;
    }
    return is_activity_known(volume) ? "-" : "unknown";
}

std::string peer_column(const Json& volume) {
    std::string names;
    for (const Json& peer : part_field(volume, "peers")) {
        names += (names.empty() ? "" : ", ") + or_unknown(text_field(peer, "node"));
    }
    return names.empty() ? "-" : names;
}

Row table_row(const Json& volume, const std::string& node, const ViewContext& context) {
    const std::string state = text_field(volume, "state");
    std::string behind;
    for (const Json& peer : part_field(volume, "peers")) {
        behind += (behind.empty() ? "" : ", ") + bytes_or_unknown(peer, "behind_bytes");
    }
    const auto resync = resync_of(volume);
    const auto since = time_field(volume, "since");
    return {{text_field(volume, "name"), Style::bold},
            {resync ? fmt::format("{} {} %", state, resync->percent()) : or_unknown(state),
             words_of(state).style},
            {or_unknown(text_field(volume, "role"))},
            {active_column(volume, node)},
            {peer_column(volume)},
            {bytes_or_unknown(volume, "size_bytes")},
            {behind.empty() ? "-" : behind},
            {since ? format_when(*since, context.now) : "unknown"}};
}

std::string format_overview(const Json& status, const std::string& node,
                            const ViewContext& context) {
    const Json& volumes = part_field(status, "volumes");
    std::vector<Row> rows{{{"VOLUME", Style::dim},
                           {"STATE", Style::dim},
                           {"ROLE HERE", Style::dim},
                           {"ACTIVE ON", Style::dim},
                           {"PEER", Style::dim},
                           {"SIZE", Style::dim},
                           {"BEHIND", Style::dim},
                           {"SINCE", Style::dim}}};
    std::vector<const Json*> unwell;
    for (const Json& volume : volumes) {
        rows.push_back(table_row(volume, node, context));
        if (status_code_of(volume) != status_in_sync) {
            unwell.push_back(&volume);
        }
    }
    const SilentNodes silent(status, unwell);
    std::string sentences = silent.lines(context.now);
    for (const Json* volume : unwell) {
        if (silent.speak_for(*volume)) {
            continue;
        }
        sentences += fmt::format("{}: {}\n", text_field(*volume, "name"),
                                 or_unknown(text_field(*volume, "why")));
        const std::string step = next_step(*volume);
        if (!step.empty()) {
            sentences += fmt::format("    next: {}\n", step);
        }
    }
    // What holds for the node as a whole is the same for each.
    std::vector<std::string> told;
    for (const Json& volume : volumes) {
        for (const Json& warning : warnings_of(volume)) {
            if (std::find(told.begin(), told.end(), text_of(warning)) == told.end()) {
                told.push_back(text_of(warning));
                sentences += fmt::format("warning: {}\n", told.back());
            }
        }
    }
    std::string text = format_table(rows, context.terminal);
    return sentences.empty() ? text : text + '\n' + sentences;
}

std::string unsupervised_lines(const Json& status) {
    std::string text;
    const Json& engines = part_field(status, "unsupervised");
    for (const Json& engine : engines.is_array() ? engines : Json::array()) {
        text += fmt::format("warning: {}\n    next: {}\n", text_field(engine, "text"),
                            text_field(engine, "remedy"));
    }
    return text;
}

}  // namespace

std::string next_step(const Json& volume) {
    const std::string step = text_field(volume, "next");
    // A mirrord that was not updated yet says it only where it knows more than the state.
    return step.empty() ? text_field(volume, "advice") : step;
}

int status_exit_code(const Json& status) {
    const Json& volumes = part_field(status, "volumes");
    if (!volumes.is_array()) {
        return status_unknown;
    }
    int worst = status_in_sync;
    for (const Json& volume : volumes) {
        worst = worse_code(worst, status_code_of(volume));
    }
    return worst;
}

std::string format_volume(const Json& volume, const std::string& node, const ViewContext& context) {
    std::string text = verdict_line(volume, node, context);
    text += fmt::format("  {}\n", or_unknown(text_field(volume, "why")));
    text += labelled("volume", volume_words(volume), context.terminal);
    text += side_lines(volume, node, context);
    const std::string media = media_words(part_field(volume, "replica"), context.now);
    if (!media.empty()) {
        text += labelled("disk", media, context.terminal);
    }
    text += split_brain_lines(volume, context);
    for (const std::string& line : gaps_words(volume, context.now)) {
        text += labelled("unread", line, context.terminal);
    }
    text += resync_line(volume, context);
    if (const Json& verify = verify_of(volume); verify.is_object()) {
        text += labelled("verify", verify_words(verify, text_field(volume, "name"), context.now),
                         context.terminal);
    }
    text += labelled("rpo", loss_words(volume, node), context.terminal);
    const Json& rto = part_field(volume, "rto");
    if (rto.is_object()) {
        text += labelled("rto", takeover_words(rto), context.terminal);
    }
    if (const std::string undo = undo_words(volume, context); !undo.empty()) {
        text += labelled("undo", undo, context.terminal);
    }
    for (const Json& warning : warnings_of(volume)) {
        text += labelled("warn", context.terminal.paint(Style::warning, text_of(warning)),
                         context.terminal);
    }
    const std::string step = next_step(volume);
    if (!step.empty()) {
        text += labelled("next", step, context.terminal);
    }
    return text;
}

std::string format_status(const Json& status, const ViewContext& context) {
    const Json& volumes = part_field(status, "volumes");
    const std::string node = text_field(status, "node");
    const std::string unsupervised = unsupervised_lines(status);
    if (volumes.empty()) {
        return fmt::format("node {} has no volumes\n", or_unknown(node)) + unsupervised;
    }
    if (volumes.size() == 1) {
        return format_volume(volumes.front(), node, context) + unsupervised;
    }
    return format_overview(status, node, context) + unsupervised;
}

}  // namespace mirror::tools
