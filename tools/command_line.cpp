// SPDX-License-Identifier: BSD-3-Clause
#include "tools/command_line.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <iterator>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "core/base/nearest_word.hpp"
#include "core/base/units.hpp"
#include "tools/terminal.hpp"

namespace mirror::tools {
namespace {

enum class Volume { none, optional, required };

/// Adds verbs to the app with what they have in common.
class Verbs {
  public:
    Verbs(CLI::App& app, Options& options) : app_(app), options_(options) { add_globals(app); }

    CLI::App& add(const char* name, const char* what, Volume volume) {
        CLI::App& verb = *app_.add_subcommand(name, what);
        verb.group("Verbs");
        verb.callback([this, name] { options_.verb = name; });
        if (volume != Volume::none) {
            CLI::Option* option = verb.add_option("VOLUME", options_.volume, "the volume's name");
            option->type_name("");
            option->required(volume == Volume::required);
        }
        add_globals(verb);
        return verb;
    }

    CLI::App& add_change(const char* name, const char* what) {
        CLI::App& verb = add(name, what, Volume::required);
        verb.add_flag("--dry-run", options_.dry_run, "show what would happen; change nothing");
        return verb;
    }

  private:
    void add_globals(CLI::App& app) {
        app.add_option("--config", options_.config,
                       "the configuration ($MIRRORDISK_CONFIG or /etc/mirrordisk/mirrordisk.toml)")
            ->type_name("FILE")
            ->take_last();
        app.add_option("--node", options_.node,
                       "the node to act for ($MIRRORDISK_NODE or the host name)")
            ->type_name("NAME")
            ->take_last();
        app.add_flag("--json", options_.json, "print the answer as JSON");
        app.add_flag("--no-color", options_.no_colour, "no colours, also on a terminal");
    }

    CLI::App& app_;
    Options& options_;
};

void add_role_verbs(Verbs& verbs, Options& options) {
    CLI::App& create = verbs.add_change("create", "create the volume's replicas on both nodes");
    create.add_flag("--overwrite-peer", options.overwrite_peer,
                    "the peer's backing may hold data; it is overwritten");
    create.add_flag("--from-empty", options.from_empty,
                    "with --overwrite-peer: also by the zeroes of an empty backing here");
    create.add_flag("--accept-mode", options.accept_mode,
                    "accept a backing file of another user, or open to others");
    create.add_flag("--local-only", options.local_only,
                    "create this node's replica only; the peer's is created later");
    create.add_flag("--replace", options.replace,
                    "recreate this node's failed replica; the peer fills it");
    create.add_flag("--yes", options.yes, "do not ask before data is overwritten");

    CLI::App& promote = verbs.add_change("promote", "make the volume active on this node");
    promote.add_flag("--force", options.force,
                     "promote without the peer's consent; writes that only it has may be lost");
    promote.add_flag("--fenced", options.fenced,
                     "the peer is known to be down (for cluster managers)");
    promote.add_flag("--yes", options.yes, "do not ask before --force loses data");

    CLI::App& demote =
        verbs.add("demote", "make the volume standby on this node", Volume::optional);
    demote.add_flag("--dry-run", options.dry_run, "show what would happen; change nothing");
    demote.add_flag("--all", options.all, "every volume that is active here, as at shutdown");
    demote.add_flag("--disconnect-clients", options.disconnect_clients,
                    "even if clients are connected (they are disconnected)");

    CLI::App& change = verbs.add_change("switch", "swap the roles of the two nodes");
    change.add_option("--to", options.to, "the node to make active (default: the other one)")
        ->type_name("NODE");
    change.add_flag("--disconnect-clients", options.disconnect_clients,
                    "even if clients are connected (they are disconnected)");
}

void add_split_brain_verbs(Verbs& verbs, Options& options) {
    CLI::App& resolve = verbs.add_change("resolve", "end a split brain: keep one node's data");
    resolve.add_option("--keep", options.keep, "the node whose data to keep (required)")
        ->type_name("NODE");
    resolve.add_flag("--yes", options.yes, "do not ask; required when not on a terminal");
    resolve.add_flag("--no-undo", options.no_undo, "do not save what is given up");
    resolve.add_flag("--disconnect-clients", options.disconnect_clients,
                     "even if clients of the losing node are connected (they are disconnected)");

    CLI::App& undo = verbs.add_change(
        "undo", "show, export or remove what a resolved split brain saved on this node");
    undo.add_flag("--list", options.list, "show the undo files");
    undo.add_option("--export", options.export_to, "write the saved blocks to a sparse image")
        ->type_name("FILE");
    undo.add_flag("--over", options.over, "with --export: write over FILE, a copy of the volume");
    undo.add_flag("--drop", options.drop, "remove an undo file");
    undo.add_option("--id", options.id, "which one, if there are several")->type_name("N");
    undo.add_flag("--yes", options.yes, "do not ask before --drop");
}

void add_mirror_verbs(Verbs& verbs, Options& options) {
    verbs.add_change("connect", "replicate to the peer again after disconnect");
    verbs.add_change("disconnect", "stop replicating cleanly, until connect");

    CLI::App& resync = verbs.add_change("resync", "send the peer what it lacks");
    resync.add_flag("--full", options.full, "compare everything by digest, send the differences");
    resync.add_flag("--wait", options.wait, "return when the volume is in sync; show progress");

    CLI::App& verify =
        verbs.add("verify", "compare both replicas while they are in use", Volume::optional);
    verify.add_flag("--dry-run", options.dry_run, "show what would happen; change nothing");
    verify.add_flag("--repair", options.repair,
                    "overwrite differing blocks of the standby with the active's");
    verify.add_flag("--wait", options.wait, "return when all is compared; show progress");
    verify.add_flag("--stop", options.stop, "stop; the next verify resumes there");
    verify
        .add_option("--rate", options.rate,
                    "bytes a second at most, 0 for no limit (default: verify_rate)")
        ->type_name("BYTES");
    verify.add_flag("--restart", options.restart, "start again at the beginning of the volume");
    verify.add_flag("--all", options.all, "every volume that is active here and in sync");

    add_split_brain_verbs(verbs, options);

    CLI::App& resize = verbs.add_change("resize", "grow the volume on both nodes, online");
    resize
        .add_option(
            "SIZE", options.size,
            "the new size (20GiB) or what to add (+5GiB); default: all that the devices have")
        ->type_name("");
    resize.add_flag("--disconnect-clients", options.disconnect_clients,
                    "even if clients besides the device are connected (they are disconnected)");

    verbs.add_change("attach", "attach the volume to its device (/dev/nbdX)");
    verbs.add_change("detach", "detach the volume from its device");

    CLI::App& restart =
        verbs.add_change("restart-engine", "replace the process that serves the volume, online");
    restart.add_flag("--disconnect-clients", options.disconnect_clients,
                     "even if clients besides the device are connected (they are disconnected)");
}

void add_setup_verbs(Verbs& verbs, Options& options) {
    CLI::App& init =
        verbs.add("init", "set up a pair of nodes: configuration, keys, next steps", Volume::none);
    init.add_option("--member", options.members,
                    "a node of the pair, once for each: NAME=ADDRESS[:PORT][,KEY=VALUE...]")
        ->type_name("NODE")
        ->allow_extra_args(false);
    init.add_option("--volume", options.volumes,
                    "a volume: NAME[,size=SIZE][,backing=PATH][,device=DEVICE][,KEY=VALUE...]")
        ->type_name("VOLUME")
        ->allow_extra_args(false);
    init.add_option("--port", options.port, "the port where an address has none (10809)")
        ->type_name("PORT")
        ->check(CLI::Range(1, 65535));
    init.add_option("--dir", options.folder,
                    "the folder of backing files that are not named (/srv)")
        ->type_name("DIR");
    CLI::Option* show =
        init.add_flag("--show-join", options.show_join, "print what the other node joins with");
    init.add_flag("--join", options.join,
                  "be the other node: take that from standard input, typed or piped")
        ->excludes(show);
    init.add_flag("--force", options.force, "replace a configuration or keys that are different");
    init.add_flag("--dry-run", options.dry_run, "print the file; change nothing");
}

/// Seconds. A number alone is seconds, too.
Result<double> parse_patience(const std::string& text) {
    double seconds = 0;
    const char* const end = text.data() + text.size();
    const auto number = std::from_chars(text.data(), end, seconds);
    if (number.ec == std::errc{} && number.ptr == end && seconds >= 0) {
        return seconds;
    }
    const auto limit = parse_duration(text);
    if (!limit) {
        return fail(ErrorKind::invalid,
                    "'{}' is not a time such as 10s, 500ms, 2min or a number of seconds",
                    printable(text));
    }
    return std::chrono::duration<double>(*limit).count();
}

void add_timeout(CLI::App& verb, Options& options, const char* what) {
    verb.add_option_function<std::string>(
            "--timeout",
            [&options](const std::string& text) {
                const auto limit = parse_patience(text);
                if (!limit) {
                    throw CLI::ValidationError("--timeout", limit.error().text());
                }
                options.timeout_seconds = *limit;
            },
            what)
        ->type_name("TIME");
}

void add_watching_verbs(Verbs& verbs, Options& options) {
    CLI::App& status = verbs.add("status", "show the state of volumes", Volume::optional);
    status.add_flag("--watch", options.watch, "keep running and show each change");

    CLI::App& wait = verbs.add("wait", "wait until a volume is in a state", Volume::required);
    wait.add_option("--for", options.wait_for, "the state to wait for")
        ->type_name("STATE")
        ->required()
        ->check(CLI::IsMember({"in-sync", "resyncing", "starting", "broken", "diverged",
                               "peer-unknown", "failed", "new"}));
    add_timeout(wait, options, "give up after this time: 10s, 500ms, 2min, or a number of seconds");

    CLI::App& events = verbs.add("events", "show this node's event log", Volume::optional);
    events.add_flag("--follow", options.follow, "keep running and show new events");
    events.add_option("--since", options.since, "only later events: a time, or an age such as 1h")
        ->type_name("TIME");
    events
        .add_flag("--test-hooks", options.test_hooks,
                  "record a test event, run the programs in events.d for it, show how they ended")
        ->excludes("--follow")
        ->excludes("--since");

    CLI::App& keygen = verbs.add("keygen", "make or change the keys of the nodes", Volume::none);
    keygen.add_flag("--dry-run", options.dry_run, "show what would happen; change nothing");
    CLI::Option* add =
        keygen.add_flag("--add", options.add_key, "a second key: accepted, not used yet");
    CLI::Option* next =
        keygen.add_flag("--next", options.next_key, "use the second key; the first stays accepted");
    CLI::Option* retire =
        keygen.add_flag("--retire", options.retire_key, "remove the key that is no longer used");
    CLI::Option* remove =
        keygen.add_option("--remove", options.remove_keys_of, "remove all keys shared with NODE")
            ->type_name("NODE");
    CLI::Option* take = keygen
                            .add_option("--take", options.take_keys,
                                        "add the keys that another node made for this one")
                            ->type_name("FILE");
    const std::vector<CLI::Option*> steps{add, next, retire, remove, take};
    for (auto step = steps.begin(); step != steps.end(); ++step) {
        std::for_each(std::next(step), steps.end(),
                      [&](CLI::Option* other) { (*step)->excludes(other); });
    }
    keygen
        .add_option("--with", options.keys_with,
                    "with --add, --next, --retire: only keys shared with NODE")
        ->type_name("NODE")
        ->excludes(remove)
        ->excludes(take);
    keygen
        .add_flag("--pairs", options.pair_keys,
                  "with --add: a key for each pair of nodes, instead of the cluster's")
        ->needs(add);

    CLI::App& reload =
        verbs.add("reload", "read the configuration again, without a restart", Volume::none);
    reload.add_flag("--dry-run", options.dry_run, "say what would happen; change nothing");

    CLI::App& check =
        verbs.add("check", "check the configuration and both nodes", Volume::optional);
    CLI::Option* nagios =
        check.add_flag("--nagios", options.nagios,
                       "for a monitor: print one line with figures, and use its exit codes");
    nagios->excludes("--json");
    check.get_option("VOLUME")->needs(nagios);
    add_timeout(check, options, "give up after this time (with --nagios 10s, otherwise 15s)");
    CLI::App& support =
        verbs.add("support", "collect information about a fault in one file", Volume::none);
    support
        .add_option("--output", options.output,
                    "the file (mirrordisk-support-NODE-TIME.tar.gz in this folder)")
        ->type_name("FILE");
    verbs.add("version", "show the versions of mirrorctl and mirrord", Volume::none);
}

/// Words that belong to an option of this name, which stands before them.
bool takes_a_word(std::string_view option) {
    return option == "--config" || option == "--node";
}

/// The first word that is neither an option nor belongs to one; empty: there is none.
std::string first_word(const std::vector<std::string>& words) {
    for (auto word = words.begin(); word != words.end(); ++word) {
        if (takes_a_word(*word)) {
            if (++word == words.end()) {
                break;
            }
        } else if (word->empty() || word->front() != '-') {
            return *word;
        }
    }
    return {};
}

std::string nearest_verb(const CLI::App& app, const std::string& word) {
    std::vector<std::string> names;
    for (const CLI::App* verb : app.get_subcommands({})) {
        names.push_back(verb->get_name());
    }
    const std::vector<std::string_view> known(names.begin(), names.end());
    return nearest_word(word, known);
}

/// False, and told, where the word that should be a verb is none.
bool knows_verb(const CLI::App& app, const std::string& word, std::ostream& err) {
    const auto verbs = app.get_subcommands({});
    const bool is_verb = std::any_of(
        verbs.begin(), verbs.end(), [&](const CLI::App* verb) { return verb->get_name() == word; });
    if (word.empty() || is_verb) {
        return true;
    }
    const std::string nearest = nearest_verb(app, word);
    err << "mirrorctl: there is no verb '" << printable(word) << "'";
    if (!nearest.empty()) {
        err << "; did you mean " << nearest << "?";
    }
    err << "\nmirrorctl --help lists the verbs.\n";
    return false;
}

/// "help" and "help VERB" are "--help" and "VERB --help".
std::vector<std::string> words_of(int argc, const char* const* argv) {
    std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
    if (!words.empty() && words.front() == "help") {
        words.erase(words.begin());
        words.emplace_back("--help");
    }
    return words;
}

}  // namespace

std::variant<Options, int> parse_command_line(int argc, const char* const* argv, std::ostream& out,
                                              std::ostream& err) {
    Options options;
    CLI::App app("mirrorctl: inspect and control mirrored disks; see mirrorctl(8)", "mirrorctl");
    app.set_version_flag("--version", "mirrorctl " MIRROR_VERSION);
    app.require_subcommand(1);
    app.get_formatter()->label("SUBCOMMAND", "VERB [VOLUME] [OPTIONS]");
    Verbs verbs(app, options);
    add_setup_verbs(verbs, options);
    add_role_verbs(verbs, options);
    add_mirror_verbs(verbs, options);
    add_watching_verbs(verbs, options);
    std::vector<std::string> words = words_of(argc, argv);
    if (!knows_verb(app, first_word(words), err)) {
        return exit_usage;
    }
    std::reverse(words.begin(), words.end());  // as CLI11 wants them
    try {
        app.parse(std::move(words));
    } catch (const CLI::ParseError& error) {
        return app.exit(error, out, err) == 0 ? exit_done : exit_usage;
    }
    return options;
}

}  // namespace mirror::tools
