// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/read_volume.hpp"

#include <string_view>
#include <sys/un.h>
#include <utility>

#include "core/config/known_keys.hpp"
#include "core/config/own_names.hpp"
#include "core/config/values.hpp"

namespace mirror {
namespace {

constexpr std::size_t longest_socket_path = sizeof(sockaddr_un::sun_path) - 1;

class VolumeReader {
  public:
    VolumeReader(const Config& config, Mistakes& mistakes, const Item& table, std::string name,
                 bool nodes_are_known)
        : config_(config),
          mistakes_(mistakes),
          table_(table),
          nodes_are_known_(nodes_are_known),
          before_(mistakes.size()),
          volume_{.name = std::move(name)} {}

    void read(const toml::table& entries) {
        for (const auto& [key, value] : entries) {
            const Item item = table_.child(key, value);
            if (key.str() == "backing") {
                read_backing(item);
            } else {
                keep(mistakes_, item, read_key(item, key.str()));
                // A name with a dot that is not in quotes lacks nothing else.
                backings_are_right_ = backings_are_right_ && !value.is_table();
            }
        }
        require_two_backings(entries);
        check_companions(entries);
        check_sockets();
    }

    [[nodiscard]] bool is_right() const { return mistakes_.size() == before_; }
    [[nodiscard]] VolumeConfig& volume() noexcept { return volume_; }

  private:
    [[nodiscard]] Result<void> read_key(const Item& item, std::string_view key);
    void read_backing(const Item& item);
    [[nodiscard]] Result<void> read_path(const Item& entry, const std::string& node);
    void require_two_backings(const toml::table& entries);
    void check_companions(const toml::table& entries);
    void check_sockets();

    const Config& config_;
    Mistakes& mistakes_;
    const Item& table_;
    const bool nodes_are_known_;
    const std::size_t before_;
    VolumeConfig volume_;
    bool backings_are_right_ = true;
};

Result<void> VolumeReader::read_key(const Item& item, std::string_view key) {
    if (key == "size") {
        return store(size_of(item), volume_.size);
    }
    if (key == "mode") {
        return store(mode_of(item), volume_.mode);
    }
    if (key == "device") {
        return store(device_of(item), volume_.device);
    }
    if (key == "mount") {
        return store(mount_of(item), volume_.mount);
    }
    if (key == "mount_options") {
        return store(mount_options_of(item), volume_.mount_options);
    }
    if (key == "io_group") {
        return store(group_of(item), volume_.io_group);
    }
    if (key == "active_at_boot") {
        return store(string_of(item, "alpha"), volume_.active_at_boot);
    }
    if (key == "hook_timeout") {
        return store(timeout_of(item), volume_.hook_timeout);
    }
    if (key == "peer_timeout") {
        return store(timeout_of(item), volume_.peer_timeout);
    }
    if (key == "disk_timeout") {
        return store(disk_timeout_of(item), volume_.disk_timeout);
    }
    if (key == "on_peer_loss") {
        return store(choice_of(item, on_peer_loss_words), volume_.on_peer_loss);
    }
    if (key == "verify_rate") {
        return store(rate_of(item), volume_.verify_rate);
    }
    if (key == "remote_verbs") {
        return store(choice_of(item, remote_verbs_words), volume_.remote_verbs);
    }
    return unknown_key(item, table_, volume_keys);
}

void VolumeReader::read_backing(const Item& item) {
    const std::size_t before = mistakes_.size();
    const toml::table* table = item.value.as_table();
    if (table == nullptr) {
        note(mistakes_, item, item.wrong("must name its node", "write backing.NODE = \"/PATH\""));
    } else {
        for (const auto& [key, value] : *table) {
            const Item entry = item.child(key, value);
            keep(mistakes_, entry, read_path(entry, std::string(key.str())));
        }
    }
    backings_are_right_ = backings_are_right_ && mistakes_.size() == before;
}

Result<void> VolumeReader::read_path(const Item& entry, const std::string& node) {
    if (entry.value.is_table()) {
        return unquoted_node(entry);
    }
    const auto known = config_.nodes.find(node);
    if (known != config_.nodes.end()) {
        volume_.address[node] = known->second.address;
    } else if (nodes_are_known_) {
        return entry.wrong(fmt::format("there is no [node.{}]", node),
                           "add it, or correct the name");
    }
    return store(path_of(entry, "/srv/r0.img"), volume_.backing[node]);
}

void VolumeReader::require_two_backings(const toml::table& entries) {
    if (!backings_are_right_) {
        return;
    }
    if (const std::size_t count = volume_.backing.size(); count != 2) {
        backings_are_right_ = false;
        note(mistakes_, table_,
             table_.wrong(fmt::format("needs exactly two backing.NODE entries, has {}",
                                      entries.contains("backing") ? count : 0),
                          "write backing.NODE = \"/PATH\" for each of its two nodes"));
    }
}

/// The keys that need each other, when all are read.
void VolumeReader::check_companions(const toml::table& entries) {
    const auto wrong = [&](const char* key, std::string_view reason, std::string remedy) {
        const auto entry = entries.find(key);
        const Item item = table_.child(entry->first, entry->second);
        note(mistakes_, item, item.wrong(reason, std::move(remedy)));
    };
    if (!volume_.mount.empty() && !entries.contains("device")) {
        wrong("mount", "the volume has no device to mount", "add device = \"/dev/nbd0\"");
    }
    if (!volume_.mount_options.empty() && !entries.contains("mount")) {
        wrong("mount_options", "the volume has no mount", "add mount = \"/srv/data\"");
    }
    if (!volume_.active_at_boot.empty() && backings_are_right_ &&
        !volume_.backing.contains(volume_.active_at_boot)) {
        wrong("active_at_boot",
              fmt::format("'{}' is not a node of this volume", volume_.active_at_boot),
              fmt::format("use \"{}\" or \"{}\"", volume_.backing.begin()->first,
                          volume_.backing.rbegin()->first));
    }
}

void VolumeReader::check_sockets() {
    for (const auto& [node, path] : volume_.backing) {
        const auto home = config_.nodes.find(node);
        if (home == config_.nodes.end()) {
            continue;
        }
        const std::string socket = home->second.express_socket(volume_.name);
        if (socket.size() > longest_socket_path) {
            note(mistakes_, table_,
                 table_.wrong(
                     fmt::format("its socket {} has a path of {} bytes", socket, socket.size()),
                     fmt::format("the system allows {}: shorten the name or node.{}.run_dir",
                                 longest_socket_path, node)));
            return;
        }
    }
}

}  // namespace

void read_volume(Config& config, Mistakes& mistakes, const Item& item, const std::string& name,
                 bool nodes_are_known) {
    const bool has_name = is_valid_name(name);
    const std::string taken = has_name ? why_no_volume_name(name) : std::string();
    if (!has_name) {
        note(mistakes, item, item.wrong("not a valid name of a volume", std::string(name_rule)));
    } else if (!taken.empty()) {
        note(mistakes, item,
             item.wrong("the name is taken: " + taken, "give the volume another name"));
    }
    const Result<const toml::table*> table = table_of(item);
    if (!table) {
        return note(mistakes, item, Failure(table.error()));
    }
    VolumeReader reader(config, mistakes, item, name, nodes_are_known);
    reader.read(**table);
    if (reader.is_right() && has_name && taken.empty() && nodes_are_known) {
        config.volumes.emplace(name, std::move(reader.volume()));
    }
}

}  // namespace mirror
