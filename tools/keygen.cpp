// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl keygen: the nodes' pre-shared keys, and their rotation in three steps (KEYS in
// mirrord(8)). Works on this node's files alone, so that it needs no daemon; the person carries
// what it made to the other nodes, over a way that she trusts.
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/tls/psk_file.hpp"
#include "tools/key_plan.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {
namespace {

bool exists(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0;
}

/// Of what is made here for another node, until it is there.
std::string file_for(const std::string& node, const std::string& path) {
    return path + "." + node;
}

Result<KeyOwners> owners_of(const Session& session) {
    const Options& options = session.options;
    KeyOwners owners{session.node.name, {}, options.keys_with + options.remove_keys_of};
    for (const auto& [name, node] : session.config.nodes) {
        if (name != owners.node) {
            owners.others.push_back(name);
        }
    }
    // One that is put out may be gone from the configuration already.
    if (!options.keys_with.empty()) {
        if (const auto known = session.config.node(owners.with); !known) {
            return Failure(known.error());
        }
    }
    if (owners.with == owners.node) {
        return fail(ErrorKind::invalid, "{} is this node: keys are shared with another one",
                    owners.with);
    }
    return owners;
}

Result<KeyPlan> plan_take_from(const std::string& given, const std::string& path,
                               const KeyOwners& owners) {
    const auto theirs = tls::read_psk_file(given);
    if (!theirs) {
        return Failure(theirs.error());
    }
    auto ours = exists(path) ? tls::read_psk_file(path) : Result<tls::PskKeys>(tls::PskKeys{});
    return ours ? plan_take(std::move(*ours), *theirs, owners) : Failure(ours.error());
}

Result<KeyPlan> plan_change(const std::string& path, const KeyOwners& owners,
                            const Options& options) {
    auto keys = tls::read_psk_file(path);
    if (!keys) {
        return Failure(keys.error());
    }
    return options.add_key      ? plan_add(std::move(*keys), owners, options.pair_keys)
           : options.next_key   ? plan_next(std::move(*keys), owners)
           : options.retire_key ? plan_retire(std::move(*keys), owners)
                                : plan_remove(std::move(*keys), owners);
}

Result<KeyPlan> make_plan(const std::string& path, const Session& session) {
    const Options& options = session.options;
    const auto owners = owners_of(session);
    if (!owners) {
        return Failure(owners.error());
    }
    if (!options.take_keys.empty()) {
        return plan_take_from(options.take_keys, path, *owners);
    }
    if (options.add_key || options.next_key || options.retire_key ||
        !options.remove_keys_of.empty()) {
        return plan_change(path, *owners, options);
    }
    if (!options.keys_with.empty()) {
        return Failure(Error{ErrorKind::invalid, "--with requires --add, --next or --retire",
                             fmt::format("mirrorctl keygen --add --with {}", options.keys_with)});
    }
    if (exists(path)) {
        return Failure(Error{ErrorKind::refused, fmt::format("{} exists", path),
                             "give the other nodes theirs as that run of keygen said; to replace "
                             "the keys without downtime: mirrorctl keygen --add"});
    }
    return plan_first(*owners);
}

/// The other nodes' first: what can't be handed out is not to be in use here.
Result<void> carry_out(const KeyPlan& plan, const std::string& path, const Options& options) {
    for (const Handout& other : plan.others) {
        if (other.way == Way::whole_file || other.way == Way::take) {
            if (auto written = tls::write_psk_file(file_for(other.node, path), other.keys);
                !written) {
                return written;
            }
        }
    }
    auto written = tls::write_psk_file(path, plan.keys);
    if (written && !options.take_keys.empty() && options.take_keys != path) {
        (void)::unlink(options.take_keys.c_str());
    }
    return written;
}

/// "scp -p FILE HOST:FILE", and what is to be done with it.
std::string instruction(const Handout& other, const std::string& host, const std::string& path) {
    const std::string file = file_for(other.node, path);
    switch (other.way) {
        case Way::copy:
            return fmt::format("next: copy it to {}, readable by root only: scp -p {} {}:{}\n",
                               other.node, path, host, path);
        case Way::whole_file:
            return fmt::format(
                "next: give {} its keys, and keep none of them here: scp -p {} {}:{} && rm {}\n",
                other.node, file, host, path, file);
        case Way::take:
            return fmt::format(
                "next: give {} its part: scp -p {} {}:{} && rm {}\n"
                "      and there: mirrorctl keygen --take {}\n",
                other.node, file, host, file, file, file);
        default:
            return fmt::format("next: the same command on {}\n", other.node);
    }
}

void print_plan(const KeyPlan& plan, const std::string& path, const Session& session) {
    std::ostream& out = session.world.out;
    out << (session.options.dry_run ? "would do: " : "") << plan.done << " (" << path << ")\n";
    for (const Handout& other : plan.others) {
        const auto node = session.config.nodes.find(other.node);
        out << instruction(
            other, node == session.config.nodes.end() ? other.node : node->second.address.host,
            path);
    }
    out << fmt::format("then: {}\n", plan.next);
}

void print_plan_as_json(const KeyPlan& plan, const std::string& path, const Session& session) {
    Json keys = Json::array();
    for (const tls::PskKey& key : plan.keys) {
        keys.push_back(key.name);
    }
    Json files = Json::object();
    for (const Handout& other : plan.others) {
        if (other.way == Way::whole_file || other.way == Way::take) {
            files[other.node] = file_for(other.node, path);
        }
    }
    print_json({{"ok", true},
                {"text", plan.done},
                {"path", path},
                {"keys", std::move(keys)},
                {"files", std::move(files)},
                {"dry_run", session.options.dry_run}},
               session.world);
}

}  // namespace

int keygen(Session& session) {
    const Options& options = session.options;
    const std::string& path = session.config.tls.psk_file;
    const auto plan = make_plan(path, session);
    if (!plan) {
        return report(plan.error(), options, session.world);
    }
    if (!options.dry_run) {
        if (const auto written = carry_out(*plan, path, options); !written) {
            return report(written.error(), options, session.world);
        }
    }
    if (options.json) {
        print_plan_as_json(*plan, path, session);
        return exit_done;
    }
    print_plan(*plan, path, session);
    if (session.config.tls.mode != TlsMode::psk) {
        session.world.out << "note: the config's tls is not \"psk\": no connection uses this key\n";
    }
    return exit_done;
}

}  // namespace mirror::tools
