// SPDX-License-Identifier: BSD-3-Clause
#include "model_truth.hpp"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

namespace mirror::test {

ModelTruth::ModelTruth() : lines_(1) {}

void ModelTruth::violated(const std::string& what) {
    if (violation_.empty()) {
        violation_ = what;
    }
}

void ModelTruth::answered(std::size_t active, std::size_t first_unit, std::size_t count,
                          Version version, Parties parties, Parties kept) {
    Line& line = lines_[line_of_[active]];
    for (std::size_t unit = first_unit; unit < first_unit + count; ++unit) {
        // Answers may come in another order than their writes, never for one unit.
        line.answered[unit] = std::max(line.answered[unit], version);
        for (std::size_t node = 0; node < 2; ++node) {
            if (!parties[node] || kept[node]) {
                line.least[node][unit] = version;
            }
            if (!parties[node]) {
                line.least_after_power_loss[node][unit] = version;
            }
        }
        for (Line& child : lines_) {
            if (child.parent == line_of_[active] && child.base[unit] < version) {
                child.parent_went_on = true;
            }
        }
    }
}

bool ModelTruth::has_all(std::size_t node, const Versions& content) const {
    const Versions& answered = lines_[line_of_[node]].answered;
    return std::equal(answered.begin(), answered.end(), content.begin(), std::less_equal<>());
}

const Versions& ModelTruth::answered_so_far(std::size_t active) const {
    return lines_[line_of_[active]].answered;
}

void ModelTruth::flushed(std::size_t active, const Versions& answered, Parties parties) {
    Line& line = lines_[line_of_[active]];
    for (std::size_t node = 0; node < 2; ++node) {
        for (std::size_t unit = 0; parties[node] && unit < model_units; ++unit) {
            Version& least = line.least_after_power_loss[node][unit];
            least = std::max(least, answered[unit]);
        }
    }
}

void ModelTruth::lost_power(std::size_t node) {
    ++power_losses_[node];
    for (Line& line : lines_) {
        line.least[node] = line.least_after_power_loss[node];
    }
}

void ModelTruth::serves(std::size_t node, const Versions& content, bool other_is_active) {
    if (line_of_[node] == none) {
        return violated(fmt::format("node {} serves what was given up", node));
    }
    if (other_is_active && same_line()) {
        return violated("two nodes are active, and nobody forced that");
    }
    if (mixed_[node]) {
        return violated(fmt::format("node {} serves a half-overwritten replica", node));
    }
    Line& line = lines_[line_of_[node]];
    for (std::size_t unit = 0; unit < model_units; ++unit) {
        if (content[unit] < line.least[node][unit]) {
            return violated(
                fmt::format("node {} serves version {} of unit {}; version {} was answered", node,
                            content[unit], unit, line.least[node][unit]));
        }
        // From here on this is what the application saw; the rest went with the power.
        line.answered[unit] = std::min(line.answered[unit], content[unit]);
        for (std::size_t any = 0; any < 2; ++any) {
            line.least[any][unit] = std::min(line.least[any][unit], content[unit]);
            line.least_after_power_loss[any][unit] =
                std::min(line.least_after_power_loss[any][unit], content[unit]);
        }
    }
}

void ModelTruth::goes_on_by_itself(std::size_t node) {
    const std::size_t ours = line_of_[node];
    for (std::size_t at = line_of_[1 - node]; at != none && at != ours; at = lines_[at].parent) {
        if (lines_[at].parent == ours && at >= decided_at_[node]) {
            return violated(fmt::format(
                "node {} goes on by itself, and the other one took over from it", node));
        }
    }
}

void ModelTruth::serves_by_force(std::size_t node, const DataDisk& disk, bool named_loss,
                                 bool fenced) {
    if (fenced && mixed_[node] && !forgot_[node]) {
        return violated(fmt::format("node {} serves a half-overwritten replica unforced", node));
    }
    mixed_[node] = forgot_[node] = false;
    const Versions& content = disk.now();
    // One that was made anew and is being filled has no line; forced, it begins one of its own.
    const bool has_line = line_of_[node] != none;
    const Line before = has_line ? lines_[line_of_[node]] : Line{};
    for (std::size_t unit = 0; unit < model_units; ++unit) {
        if (!named_loss && (!has_line || content[unit] < before.answered[unit])) {
            return violated(
                fmt::format("node {} was forced to serve version {} of unit {} instead of {}, and "
                            "no loss was named",
                            node, content[unit], unit, before.answered[unit]));
        }
    }
    Line line;
    line.parent = line_of_[node];
    line.base = content;
    line.answered = content;
    line.least = {content, content};
    line.least_after_power_loss = {content, content};
    for (std::size_t unit = 0; unit < model_units; ++unit) {
        // What a resync that has not ended sent there may be in no more than its cache.
        Version& least = line.least_after_power_loss[node][unit];
        least =
            disk.unflushed(unit) ? 0 : std::min(least, before.least_after_power_loss[node][unit]);
    }
    line_of_[node] = lines_.size();
    lines_.push_back(line);
}

void ModelTruth::serves_unknowingly(std::size_t node, const DataDisk& disk) {
    serves_by_force(node, disk, true, false);
    lines_.back().unknowing = true;
}

void ModelTruth::overwrites(std::size_t source, std::size_t target) {
    std::size_t& held = line_of_[target];
    while (held != none && lines_[held].unknowing && lines_[held].answered == lines_[held].base) {
        held = lines_[held].parent;  // nobody was told that anything was written
    }
    if (line_of_[target] != none) {
        for (std::size_t at = line_of_[source]; at != line_of_[target]; at = lines_[at].parent) {
            if (lines_[at].parent == none) {
                return violated(
                    "a session begins between two lines of which neither goes back to "
                    "the other");
            }
            if (lines_[at].parent_went_on) {
                return violated("a session overwrites answered writes after a split brain");
            }
        }
    }
    line_of_[target] = line_of_[source];
}

}  // namespace mirror::test
