// SPDX-License-Identifier: BSD-3-Clause
// From TOML to a Config. Every mistake is noted and the reading continues; what only follows from
// one that is noted already is not told. The rules that span tables (addresses, paths in common)
// are checked when all of them are read.
#include <algorithm>
#include <exception>
#include <string_view>
#include <utility>

#include <toml++/toml.h>

#include "core/config/config.hpp"
#include "core/config/item.hpp"
#include "core/config/known_keys.hpp"
#include "core/config/mistakes.hpp"
#include "core/config/network.hpp"
#include "core/config/own_names.hpp"
#include "core/config/paths.hpp"
#include "core/config/read_volume.hpp"
#include "core/config/syntax.hpp"
#include "core/config/values.hpp"

namespace mirror {
namespace {

class Reader {
  public:
    Reader(const std::string& path, Mistakes& mistakes)
        : config_{.path = path, .tls = default_tls(path)}, mistakes_(mistakes) {}

    [[nodiscard]] Config& config() noexcept { return config_; }

    void read(const toml::table& root) {
        const Item top{config_.path, "", root, {}};
        for (const auto& [key, value] : root) {
            const Item item = top.child(key, value);
            keep(mistakes_, item, read_top_key(item, top, key.str()));
        }
        // Volumes name nodes, wherever in the file these are.
        const bool nodes_are_known = read_nodes(root, top);
        if (const auto tls = root.find("tls"); tls != root.end()) {
            const Item item = top.child(tls->first, tls->second);
            keep(mistakes_, item, check_network(config_, item));
        }
        if (const auto volumes = root.find("volume"); volumes != root.end()) {
            const Item section = top.child(volumes->first, volumes->second);
            read_section(section, [&](const Item& item, const std::string& name) {
                read_volume(config_, mistakes_, item, name, nodes_are_known);
            });
            check_paths(config_, section, mistakes_);
        }
    }

  private:
    /// The tables are read afterwards, in the order in which they need each other.
    [[nodiscard]] Result<void> read_top_key(const Item& item, const Item& top,
                                            std::string_view key) {
        if (key == "node" || key == "volume") {
            return {};
        }
        if (std::find(network_keys.begin(), network_keys.end(), key) != network_keys.end()) {
            return read_network_key(config_.tls, item, key);
        }
        if (key == "control_group") {
            return store(group_of(item), config_.control_group);
        }
        return unknown_key(item, top, top_keys);
    }

    /// Calls `read(item, name)` for every entry of [SECTION.*]; whether there can be any.
    template <typename Read>
    bool read_section(const Item& section, Read read) {
        const Result<const toml::table*> table = table_of(section);
        if (!table) {
            note(mistakes_, section, Failure(table.error()));
            return false;
        }
        for (const auto& [key, value] : **table) {
            const Item item = section.child(key, value);
            if (!value.is_table() && belongs_above_tables(key.str())) {
                note(mistakes_, item, stands_below(item, section, key.str()));
            } else {
                read(item, std::string(key.str()));
            }
        }
        return true;
    }

    /// Whether the file has nodes that volumes could name.
    bool read_nodes(const toml::table& root, const Item& top) {
        const auto nodes = root.find("node");
        if (nodes != root.end() && !read_section(top.child(nodes->first, nodes->second),
                                                 [&](const Item& item, const std::string& name) {
                                                     read_node(item, name);
                                                 })) {
            return false;
        }
        if (config_.nodes.empty()) {
            mistakes_.push_back(
                {0,
                 "node",
                 {ErrorKind::invalid, config_.path + ": node: no node is configured",
                  "add [node.NAME] with address = \"HOST:PORT\" for both machines"}});
        }
        return !config_.nodes.empty();
    }

    /// One with a mistake is there all the same, for the volumes that name it.
    void read_node(const Item& item, const std::string& name) {
        NodeConfig& node = config_.nodes.emplace(name, NodeConfig{.name = name}).first->second;
        if (!is_valid_name(name)) {
            note(mistakes_, item, item.wrong("not a valid name of a node", std::string(name_rule)));
        } else if (const std::string reason = why_no_node_name(name); !reason.empty()) {
            note(mistakes_, item,
                 item.wrong("the name is taken: " + reason, "give the node another name"));
        }
        const Result<const toml::table*> table = table_of(item);
        if (!table) {
            return note(mistakes_, item, Failure(table.error()));
        }
        // A name with a dot that is not in quotes says what it is, and lacks nothing else.
        bool is_nested = false;
        for (const auto& [key, value] : **table) {
            const Item entry = item.child(key, value);
            is_nested = is_nested || value.is_table();
            keep(mistakes_, entry, read_node_key(node, entry, item, key.str()));
        }
        if (!(*table)->contains("address") && !is_nested) {
            note(mistakes_, item, item.wrong("address is missing", "add address = \"HOST:PORT\""));
        }
        require_own_address(item, node);
    }

    [[nodiscard]] static Result<void> read_node_key(NodeConfig& node, const Item& item,
                                                    const Item& table, std::string_view key) {
        if (key == "address") {
            return store(address_of(item), node.address);
        }
        if (key == "run_dir") {
            return store(path_of(item, "/run/mirrordisk"), node.run_dir);
        }
        if (key == "state_dir") {
            return store(path_of(item, "/var/lib/mirrordisk"), node.state_dir);
        }
        if (key == "remote_verbs") {
            return store(choice_of(item, remote_verbs_words), node.remote_verbs);
        }
        return unknown_key(item, table, node_keys);
    }

    void require_own_address(const Item& item, const NodeConfig& node) {
        for (const auto& [other_name, other] : config_.nodes) {
            if (other_name != node.name && node.address.port != 0 &&
                other.address == node.address) {
                return note(mistakes_, item,
                            item.wrong(fmt::format("has the address {} of node.{}",
                                                   node.address.text(), other_name),
                                       "give each node an address of its own"));
            }
        }
    }

    Config config_;
    Mistakes& mistakes_;
};

/// A mistake that has no line is about the file as a whole.
bool stands_before(const Mistake& one, const Mistake& other) {
    return one.line != 0 && (other.line == 0 || one.line < other.line);
}

/// A key whose line could not be read is missing in its table, and is told of already.
void drop_what_follows(Mistakes& mistakes, std::size_t of_syntax) {
    const auto begin = mistakes.begin();
    const auto later = begin + static_cast<Mistakes::difference_type>(of_syntax);
    const auto follows = [&](const Mistake& mistake) {
        return std::any_of(begin, later, [&](const Mistake& first) {
            return first.key.starts_with(mistake.key + ".");
        });
    };
    mistakes.erase(std::remove_if(later, mistakes.end(), follows), mistakes.end());
}

}  // namespace

tl::expected<Config, Mistakes> read_config(const std::string& text, const std::string& path) {
    Mistakes mistakes;
    try {
        Reader reader(path, mistakes);
        const auto root = parse_toml(text, path, mistakes);
        if (root) {
            const std::size_t of_syntax = mistakes.size();
            reader.read(*root);
            drop_what_follows(mistakes, of_syntax);
        }
        if (mistakes.empty()) {
            return std::move(reader.config());
        }
    } catch (const std::exception& error) {
        mistakes.push_back(
            {0, {}, {ErrorKind::internal, fmt::format("{}: {}", path, error.what())}});
    }
    std::stable_sort(mistakes.begin(), mistakes.end(), stands_before);
    return tl::unexpected(std::move(mistakes));
}

}  // namespace mirror
