// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl undo: the blocks that a resolution saved. Lists and exports by reading the files
// itself, so that both work without the daemon; drops through mirrord, which records it.
#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/units.hpp"
#include "core/undo/undo_export.hpp"
#include "core/undo/undo_folder.hpp"
#include "tools/table.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {
namespace {

std::string id_or_none(const GenerationId& id) {
    return id.is_none() ? "none" : short_form(id);
}

Json to_json(const UndoEntry& entry) {
    Json json = {{"id", entry.id}, {"path", entry.path}, {"file_bytes", entry.file_bytes}};
    if (!entry.info) {
        json["problem"] = entry.problem;
        return json;
    }
    const UndoInfo& info = *entry.info;
    json["made_at"] = format_rfc3339(info.made_at);
    json["node"] = info.node;
    json["kept"] = info.kept;
    json["generation"] = to_string(info.generation);
    json["kept_generation"] = to_string(info.kept_generation);
    json["ancestor"] = info.ancestor.is_none() ? Json() : Json(to_string(info.ancestor));
    json["volume_bytes"] = info.volume_size;
    json["saved_bytes"] = entry.saved_bytes;
    json["runs"] = entry.runs;
    return json;
}

/// "the split brain of 2026-03-01 12:30:05: 4 MiB in 3 runs of beta (generation …), …"
std::string describe(const UndoEntry& entry) {
    if (!entry.info) {
        return fmt::format("undo {} can't be read: {}", entry.id, printable(entry.problem));
    }
    const UndoInfo& info = *entry.info;
    return fmt::format(
        "{} in {} run{} that {} had (generation {}) when {} (generation {}) was "
        "kept at {}",
        format_size(entry.saved_bytes), entry.runs, entry.runs == 1 ? "" : "s", info.node,
        short_form(info.generation), info.kept, short_form(info.kept_generation),
        format_local(info.made_at));
}

void print_list(const std::vector<UndoEntry>& entries, Session& session) {
    World& world = session.world;
    if (entries.empty()) {
        world.out << fmt::format("{} has no undo file on {}\n", session.options.volume,
                                 session.node.name);
        return;
    }
    std::vector<Row> rows{{{"ID", Style::dim},
                           {"MADE", Style::dim},
                           {"BLOCKS OF", Style::dim},
                           {"KEPT", Style::dim},
                           {"SAVED", Style::dim},
                           {"RUNS", Style::dim},
                           {"GENERATIONS (SAVED, KEPT, ANCESTOR)", Style::dim}}};
    for (const UndoEntry& entry : entries) {
        if (!entry.info) {
            rows.push_back({{fmt::format("{}", entry.id)},
                            {"can't be read: " + printable(entry.problem), Style::bad}});
            continue;
        }
        const UndoInfo& info = *entry.info;
        rows.push_back(
            {{fmt::format("{}", entry.id)},
             {format_local(info.made_at)},
             {printable(info.node)},
             {printable(info.kept)},
             {format_size(entry.saved_bytes)},
             {fmt::format("{}", entry.runs)},
             {fmt::format("{}, {}, {}", short_form(info.generation),
                          short_form(info.kept_generation), id_or_none(info.ancestor))}});
    }
    world.out << format_table(rows, world.terminal);
}

int list(const std::vector<UndoEntry>& entries, Session& session) {
    if (!session.options.json) {
        print_list(entries, session);
        return exit_done;
    }
    Json array = Json::array();
    for (const UndoEntry& entry : entries) {
        array.push_back(to_json(entry));
    }
    print_json({{"volume", session.options.volume},
                {"node", session.node.name},
                {"undo", std::move(array)}},
               session.world);
    return exit_done;
}

/// The one that --id names, or the only one.
Result<UndoEntry> choose(const std::vector<UndoEntry>& entries, const Session& session) {
    const Options& options = session.options;
    const std::string list_command = fmt::format("mirrorctl undo {} --list", options.volume);
    if (!options.id && entries.size() == 1) {
        return entries.front();
    }
    if (!options.id) {
        return Failure(
            Error{ErrorKind::refused,
                  entries.empty()
                      ? fmt::format("{} has no undo file on {}", options.volume, session.node.name)
                      : fmt::format("{} has {} undo files on {}", options.volume, entries.size(),
                                    session.node.name),
                  entries.empty() ? "undo files are on the node that gave up its data"
                                  : "say which with --id N; " + list_command});
    }
    const auto found = std::find_if(entries.begin(), entries.end(),
                                    [&](const UndoEntry& each) { return each.id == *options.id; });
    if (found == entries.end()) {
        return Failure(Error{
            ErrorKind::not_found,
            fmt::format("{} has no undo {} on {}", options.volume, *options.id, session.node.name),
            list_command});
    }
    return *found;
}

int report_export(const UndoExport& done, const UndoEntry& entry, Session& session) {
    const Options& options = session.options;
    if (options.json) {
        Json damaged = Json::array();
        for (const ByteRange& range : done.damaged) {
            damaged.push_back({{"offset_bytes", range.offset}, {"length_bytes", range.length}});
        }
        print_json({{"ok", done.damaged.empty()},
                    {"id", entry.id},
                    {"file", options.export_to},
                    {"written_bytes", done.written_bytes},
                    {"damaged", std::move(damaged)}},
                   session.world);
    } else {
        session.world.out << fmt::format("{}: {} of undo {} written\n", options.export_to,
                                         format_size(done.written_bytes), entry.id);
    }
    for (const ByteRange& range : done.damaged) {
        session.world.err << fmt::format(
            "mirrorctl: bytes {} to {} were saved, but are damaged in {}: not written\n",
            range.offset, range.end() - 1, entry.path);
    }
    return done.damaged.empty() ? exit_done : exit_refused;
}

int export_one(const UndoEntry& entry, Session& session) {
    const Options& options = session.options;
    const auto file = UndoFile::open(entry.path);
    if (!file) {
        return report(file.error(), options, session.world);
    }
    if (options.dry_run) {
        session.world.out << fmt::format("would: write {} to {}\nnothing was changed (--dry-run)\n",
                                         describe(entry), options.export_to);
        return exit_done;
    }
    const auto done = options.over ? export_over(*file, options.export_to)
                                   : export_image(*file, options.export_to);
    return done ? report_export(*done, entry, session)
                : report(done.error(), options, session.world);
}

bool was_confirmed(const UndoEntry& entry, Session& session) {
    World& world = session.world;
    world.out << fmt::format(
                     "loss:  {}: gone for good\n"
                     "Type the volume's name ({}) to continue: ",
                     describe(entry), session.options.volume)
              << std::flush;
    std::string typed;
    std::getline(world.in, typed);
    return typed == session.options.volume;
}

int drop_one(const UndoEntry& entry, Session& session) {
    const Options& options = session.options;
    World& world = session.world;
    if (options.dry_run) {
        world.out << fmt::format("would: drop {}\nnothing was changed (--dry-run)\n",
                                 describe(entry));
        return exit_done;
    }
    if (!options.yes && (!world.can_ask || options.json)) {
        return report(
            Error{ErrorKind::refused,
                  "not a terminal: add --yes to confirm that this is discarded: " + describe(entry),
                  fmt::format("mirrorctl undo {} --drop --id {} --yes", options.volume, entry.id)},
            options, world);
    }
    if (!options.yes && !was_confirmed(entry, session)) {
        world.err << "mirrorctl: the name does not match: nothing was changed\n";
        return exit_refused;
    }
    const auto answer = session.client.ask(
        {{"request", "undo-drop"}, {"volume", options.volume}, {"id", entry.id}}, change_deadline);
    if (!answer) {
        return report(answer.error(), options, world);
    }
    if (options.json) {
        print_json(*answer, world);
    } else {
        world.out << text_field(*answer, "text") << '\n';
    }
    return exit_done;
}

}  // namespace

int undo(Session& session) {
    const Options& options = session.options;
    const bool exports = !options.export_to.empty();
    if ((options.list ? 1 : 0) + (exports ? 1 : 0) + (options.drop ? 1 : 0) != 1) {
        session.world.err << "mirrorctl: undo takes one of --list, --export FILE and --drop\n";
        return exit_usage;
    }
    const auto entries = UndoFolder(session.node.state_dir, options.volume).list();
    if (!entries) {
        return report(entries.error(), options, session.world);
    }
    if (options.list) {
        return list(*entries, session);
    }
    const auto chosen = choose(*entries, session);
    if (!chosen) {
        return report(chosen.error(), options, session.world);
    }
    return exports ? export_one(*chosen, session) : drop_one(*chosen, session);
}

}  // namespace mirror::tools
