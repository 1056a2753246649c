// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl keygen: the cluster's pre-shared key, and its rotation in three steps (KEYS in
// mirrord(8)). Works on this node's file alone, so that it needs no daemon; the person carries the
// file to the other nodes, over a way that she trusts.
#include <sys/stat.h>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/tls/psk_file.hpp"
#include "tools/verbs.hpp"

namespace mirror::tools {
namespace {

enum class Step { make, add, use_next, retire };

struct Plan {
    tls::PskKeys keys;  ///< the file as it shall be
    std::string done;   ///< what was done, a sentence
    std::string next;   ///< what to do when the file is on all nodes; may be empty
};

Step step_of(const Options& options) {
    return options.add_key      ? Step::add
           : options.next_key   ? Step::use_next
           : options.retire_key ? Step::retire
                                : Step::make;
}

bool exists(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0;
}

Result<tls::PskKey> fresh_key(const Session& session) {
    std::string date = format_rfc3339(session.world.clock.wall_now()).substr(0, 10);
    std::erase(date, '-');
    return tls::new_psk_key(date);
}

Result<Plan> plan_first(const std::string& path, const Session& session) {
    if (exists(path)) {
        return Failure(Error{ErrorKind::refused, fmt::format("{} exists", path),
                             "copy it to the other nodes as it is; to replace the key without "
                             "downtime: mirrorctl keygen --add"});
    }
    auto key = fresh_key(session);
    if (!key) {
        return Failure(key.error());
    }
    std::string done = fmt::format("made the key {} in {}", key->name, path);
    return Plan{{std::move(*key)}, std::move(done), "mirrorctl check"};
}

Result<Plan> plan_add(tls::PskKeys keys, const Session& session) {
    if (keys.size() == tls::most_psk_keys) {
        return Failure(Error{
            ErrorKind::refused,
            fmt::format("a rotation from {} to {} is not finished", keys[0].name, keys[1].name),
            "go on with mirrorctl keygen --next, then --retire"});
    }
    auto key = fresh_key(session);
    if (!key) {
        return Failure(key.error());
    }
    std::string done = fmt::format("added the key {}: it is accepted, and {} is used still",
                                   key->name, keys.front().name);
    keys.push_back(std::move(*key));
    return Plan{std::move(keys), std::move(done),
                "mirrorctl check, and when it finds no problem: mirrorctl keygen --next"};
}

Failure no_second(const tls::PskKeys& keys) {
    return Failure(Error{ErrorKind::refused, fmt::format("there is one key, {}", keys.front().name),
                         "a rotation begins with mirrorctl keygen --add"});
}

Result<Plan> plan_next(tls::PskKeys keys) {
    if (keys.size() < 2) {
        return no_second(keys);
    }
    std::swap(keys[0], keys[1]);
    std::string done = fmt::format("new connections use the key {}; {} is accepted still",
                                   keys[0].name, keys[1].name);
    return Plan{std::move(keys), std::move(done),
                "mirrorctl check shows which key each link uses (mirrorctl restart-engine VOLUME "
                "renews one), then: mirrorctl keygen --retire"};
}

Result<Plan> plan_retire(tls::PskKeys keys) {
    if (keys.size() < 2) {
        return no_second(keys);
    }
    std::string done =
        fmt::format("the key {} is gone; who still uses it has to connect anew with {}",
                    keys[1].name, keys[0].name);
    keys.pop_back();
    return Plan{std::move(keys), std::move(done), "mirrorctl check"};
}

Result<Plan> make_plan(const std::string& path, const Session& session) {
    const Step step = step_of(session.options);
    if (step == Step::make) {
        return plan_first(path, session);
    }
    auto keys = tls::read_psk_file(path);
    if (!keys) {
        return Failure(keys.error());
    }
    return step == Step::add        ? plan_add(std::move(*keys), session)
           : step == Step::use_next ? plan_next(std::move(*keys))
                                    : plan_retire(std::move(*keys));
}

std::vector<std::string> names_of(const tls::PskKeys& keys) {
    std::vector<std::string> names;
    for (const tls::PskKey& key : keys) {
        names.push_back(key.name);
    }
    return names;
}

void print_plan(const Plan& plan, const std::string& path, const Session& session) {
    std::ostream& out = session.world.out;
    out << (session.options.dry_run ? "would be done: " : "") << plan.done << '\n';
    for (const auto& [name, node] : session.config.nodes) {
        if (name != session.node.name) {
            out << fmt::format("next: copy it to {}, for root alone: scp -p {} {}:{}\n", name, path,
                               node.address.host, path);
        }
    }
    out << fmt::format("then: {}\n", plan.next);
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
        if (const auto written = tls::write_psk_file(path, plan->keys); !written) {
            return report(written.error(), options, session.world);
        }
    }
    if (options.json) {
        print_json({{"ok", true},
                    {"text", plan->done},
                    {"path", path},
                    {"keys", names_of(plan->keys)},
                    {"dry_run", options.dry_run}},
                   session.world);
        return exit_done;
    }
    print_plan(*plan, path, session);
    if (session.config.tls.mode != TlsMode::psk) {
        session.world.out << "note: the config's tls is not \"psk\": no connection uses this key\n";
    }
    return exit_done;
}

}  // namespace mirror::tools
