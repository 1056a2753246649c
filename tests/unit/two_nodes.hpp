// SPDX-License-Identifier: BSD-3-Clause
// mirrord of alpha and mirrord of beta in one process, without engines: what one asks the other is
// carried out by the other's requests, and a test has the world change at any question. The volume
// is r0, in sync since it was made, active on no node.
#pragma once

#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/control/mailbox.hpp"
#include "core/nbd/server.hpp"
#include "daemon/active_mark.hpp"
#include "daemon/requests.hpp"
#include "daemon/volume_home.hpp"
#include "no_devices.hpp"
#include "temp_dir.hpp"

namespace mirror::test {

using daemon::Json;

/// In its place from the scope's beginning to its end: what is started as an engine. A plugin is
/// there, as on a node where mirrordisk is installed.
class EngineProgram {
  public:
    explicit EngineProgram(const std::string& path) {
        ::setenv("MIRRORDISK_NBDKIT", path.c_str(), 1);
        ::setenv("MIRRORDISK_PLUGIN", path.c_str(), 1);
    }
    EngineProgram(const EngineProgram&) = delete;
    EngineProgram& operator=(const EngineProgram&) = delete;
    ~EngineProgram() {
        ::unsetenv("MIRRORDISK_NBDKIT");
        ::unsetenv("MIRRORDISK_PLUGIN");
    }
};

class Node final : public nbd::ExportProvider {
  public:
    static constexpr std::uint64_t volume_size = 1 * MiB;
    /// Before a question of the other node is carried out: an answer in its place, or nothing.
    using Hook =
        std::function<std::optional<Result<Json>>(const Json& request, const nbd::Client& client)>;

    Node() : server_(*this, nbd::ServerLimits{}) {
        const auto bound = server_.listen_tcp({"127.0.0.1", 0});
        REQUIRE(bound);
        port_ = *bound;
    }
    ~Node() override {
        server_.stop();
        if (peers) {
            peers->stop();
        }
        for (auto& [name, keeper] : keepers_) {
            keeper->stop();
        }
    }

    [[nodiscard]] std::uint16_t port() const { return port_; }
    [[nodiscard]] std::string backing() const { return dir.file("r0.img"); }
    [[nodiscard]] std::string meta() const { return meta_path(dir.path(), "r0"); }
    void make_replica(const Superblock& block) const {
        REQUIRE(create_backing_file(backing(), volume_size));
        REQUIRE(create_meta(meta(), block));
    }
    /// Nothing before start() looks at the replica. `move` says where volumes live.
    void prepare(const std::string& own, const Config& config,
                 const std::function<void(daemon::Homes&)>& move = {}) {
        config_ = config;
        events = std::make_unique<EventLog>(dir.file("events.jsonl"), own, system_clock());
        context.emplace(daemon::Context{config_, **config_.node(own), system_clock(), *events});
        homes_ = daemon::find_homes(config_, context->node, {});
        if (move) {
            move(homes_);
        }
        context->homes = &homes_;
        peers = std::make_unique<daemon::PeerWatch>(*context);
        for (const auto& [name, home] : homes_) {
            keepers_.put(std::make_unique<daemon::VolumeKeeper>(*context, home, *peers, devices_));
        }
        requests = std::make_unique<daemon::Requests>(*context, keepers_, *peers);
    }
    void start() {
        for (auto& [name, keeper] : keepers_) {
            REQUIRE(keeper->start());
        }
    }
    daemon::VolumeKeeper& r0() { return *keepers_.at("r0"); }
    [[nodiscard]] Superblock superblock() const {
        const auto block = read_superblock(meta());
        REQUIRE(block);
        return *block;
    }
    /// What the peer asked, in order.
    [[nodiscard]] std::vector<std::string> asked() {
        const std::lock_guard lock(mutex_);
        return asked_;
    }
    void on_question(Hook hook) {
        const std::lock_guard lock(mutex_);
        hook_ = std::move(hook);
    }
    [[nodiscard]] std::size_t events_of(const std::string& id) const {
        std::ifstream file(events->path());
        std::size_t count = 0;
        for (std::string line; std::getline(file, line);) {
            count += Json::parse(line)["id"] == id ? 1U : 0U;
        }
        return count;
    }
    [[nodiscard]] Result<Json> answer(const Json& request, const nbd::Client& client) {
        Hook hook;
        {
            const std::lock_guard lock(mutex_);
            asked_.push_back(request.value("request", ""));
            hook = hook_;
        }
        if (hook) {
            if (auto instead = hook(request, client)) {
                return std::move(*instead);
            }
        }
        return requests ? requests->handle(request, client)
                        : fail(ErrorKind::busy, "it is not started yet");
    }

    std::vector<std::string> list(const nbd::Client&) override { return {}; }
    Result<std::unique_ptr<nbd::Export>> open(const std::string&, const nbd::Client& client,
                                              std::function<void()>) override {
        return control::make_mailbox_export(
            [this](const Json& request, const nbd::Client& who) { return answer(request, who); },
            client);
    }

    TempDir dir;
    std::unique_ptr<EventLog> events;
    std::optional<daemon::Context> context;
    std::unique_ptr<daemon::PeerWatch> peers;
    std::unique_ptr<daemon::Requests> requests;

  private:
    Config config_;
    daemon::Homes homes_;
    NoDevices devices_;
    daemon::Keepers keepers_;
    std::uint16_t port_ = 0;
    std::mutex mutex_;
    Hook hook_;                       ///< under mutex_
    std::vector<std::string> asked_;  ///< under mutex_
    nbd::Server server_;
};

/// Whatever answers, an engine does not start, unless a test says otherwise.
struct TwoNodes {
    EngineProgram engines{"/bin/false"};
    Node alpha;
    Node beta;
    Superblock alphas = first_of("alpha", "beta");
    Superblock betas = first_of("beta", "alpha");

    TwoNodes() {
        betas.volume = alphas.volume;
        betas.session = alphas.session;
        betas.lineage = alphas.lineage;
        betas.last_active = false;
    }
    /// With the superblocks as they are by then.
    void start(const std::string& more = "") {
        alpha.make_replica(alphas);
        beta.make_replica(betas);
        alpha.prepare("alpha", config(more));
        beta.prepare("beta", config(more));
        alpha.start();
        beta.start();
    }
    [[nodiscard]] Config config(const std::string& more = "") const {
        return parse_config(
                   fmt::format(R"(
[node.alpha]
address = "127.0.0.1:{0}"
run_dir = "{1}"
state_dir = "{1}"
[node.beta]
address = "127.0.0.1:{2}"
run_dir = "{3}"
state_dir = "{3}"
[volume.r0]
backing.alpha = "{1}/r0.img"
backing.beta = "{3}/r0.img"
{4}
)",
                               alpha.port(), alpha.dir.path(), beta.port(), beta.dir.path(), more),
                   "m.toml")
            .value();
    }
    static Superblock first_of(const std::string& node, const std::string& peer) {
        Superblock block;
        block.volume = random_id<VolumeId>();
        block.volume_name = "r0";
        block.node = node;
        block.peer = peer;
        block.size = Node::volume_size;
        block.state = ReplicaState::up_to_date;
        block.session = random_id<SessionId>();
        block.last_active = true;
        block.steps = first_steps;
        block.lineage.begin(random_id<GenerationId>(), WallTime(std::chrono::seconds(1)), node,
                            GenerationReason::created);
        return block;
    }
};

}  // namespace mirror::test
