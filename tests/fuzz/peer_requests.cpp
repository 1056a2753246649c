// SPDX-License-Identifier: BSD-3-Clause
// A mirrord with a standby replica, and what somebody who reaches its port may say: lines that end
// with a zero byte, each a request for the mailbox or, after a '>', the name of an export to open
// and use. The settings "ours" are those of this node, which a peer must have as well. Requests
// that start processes, connect elsewhere or take disk space are left out.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "core/base/json.hpp"
#include "core/control/json_text.hpp"
#include "core/control/messages.hpp"
#include "core/meta/meta_file.hpp"
#include "daemon/device/netlink.hpp"
#include "daemon/exports.hpp"
#include "daemon/volume_home.hpp"
#include "input.hpp"
#include "temp_folder.hpp"

namespace mirror::fuzz {
namespace {

using daemon::Json;

constexpr std::uint64_t volume_size = 3 * MiB;

constexpr std::array<std::string_view, 9> left_out{
    "promote", "demote", "connect",        "disconnect",    "resync",
    "verify",  "resize", "create-replica", "resize-replica"};

Config make_config(const std::string& folder) {
    const std::string text = fmt::format(R"([node.alpha]
address = "127.0.0.1:1"
[node.beta]
address = "127.0.0.1:2"
run_dir = "{0}"
state_dir = "{0}"
[volume.r0]
size = "3MiB"
backing.alpha = "{0}/backing"
backing.beta = "{0}/backing"
)",
                                         folder);
    auto config = parse_config(text, "mirrordisk.toml");
    require(config.has_value(), "a good configuration is read");
    return std::move(*config);
}

/// The same each time: an input must do again what it did.
Superblock first_superblock() {
    Superblock block;
    block.volume.bytes.fill(1);
    block.volume_name = "r0";
    block.node = "beta";
    block.peer = "alpha";
    block.size = volume_size;
    block.state = ReplicaState::up_to_date;
    GenerationId id;
    id.bytes.fill(2);
    block.lineage.begin(id, WallTime(std::chrono::seconds(1)), "alpha", GenerationReason::created);
    return block;
}

void make_files(const std::string& folder) {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder + "/r0");
    std::ofstream(folder + "/backing") << "begins with data";
    std::filesystem::resize_file(folder + "/backing", volume_size);
    require(create_meta(folder + "/r0/meta", first_superblock()).has_value(),
            "a metadata file can be made");
}

/// All of a daemon but its threads and sockets.
class Node {
  public:
    explicit Node(const std::string& folder)
        : config_(make_config(folder)),
          events_(folder + "/events.jsonl", "beta", system_clock()),
          context_{config_, config_.nodes.at("beta"), system_clock(), events_},
          devices_(context_, driver_, dialler_),
          peers_(context_),
          requests_(context_, keepers_, peers_),
          exports_(requests_, keepers_) {
        const daemon::Homes homes = daemon::find_homes(config_, context_.node, {});
        daemon::VolumeKeeper& keeper = keepers_.put(
            std::make_unique<daemon::VolumeKeeper>(context_, homes.at("r0"), peers_, devices_));
        const auto operation = keeper.begin("fuzz");
        require(operation.has_value(), "nothing else is under way");
        const Result<void> opened = keeper.open_standby(*operation);
        require(opened.has_value(), opened ? "" : opened.error().text().c_str());
    }

    void ask(const std::string& line) {
        Json request = control::parse_shallow(line);
        if (!request.is_object() || is_left_out(request)) {
            return;
        }
        if (const auto settings = request.find("settings");
            settings != request.end() && *settings == "ours") {
            *settings = config_.volumes.at("r0").shared_settings();
        }
        (void)requests_.handle(request, stranger_);
        (void)keepers_.at("r0")->peer_status(false);
    }
    void open(const std::string& name) {
        const auto opened = exports_.open(name, stranger_, [] {});
        if (!opened) {
            return;
        }
        const nbd::Traits traits = (*opened)->traits();
        std::vector<std::byte> data(std::min<std::uint64_t>(traits.size, 4096));
        (void)(*opened)->read(data, 0);
        (void)(*opened)->read(data, traits.size - data.size());
        if (!traits.read_only) {
            (void)(*opened)->write(data, 0);
        }
        (void)(*opened)->flush();
    }

  private:
    static bool is_left_out(const Json& request) {
        const auto name = control::string_field(request, "request");
        return name && std::find(left_out.begin(), left_out.end(), *name) != left_out.end();
    }

    const Config config_;
    EventLog events_;
    const daemon::Context context_;
    daemon::NetlinkDriver driver_;
    daemon::NbdDialler dialler_;
    daemon::NbdAttacher devices_;
    daemon::PeerWatch peers_;
    daemon::Keepers keepers_;
    daemon::Requests requests_;
    daemon::Exports exports_;
    // Proven: else the node would ask the network who begins a session.
    const nbd::Client stranger_{.address = "10.0.0.9:40112", .key = {}, .node = "alpha"};
};

}  // namespace

void peer_requests(Bytes bytes) {
    const std::string folder = temp_folder() + "/node";
    make_files(folder);
    Node node(folder);
    Input input(bytes);
    while (!input.at_end()) {
        const std::string line(input.text());
        if (line.starts_with('>')) {
            node.open(line.substr(1));
        } else {
            node.ask(line);
        }
    }
}

}  // namespace mirror::fuzz
