// SPDX-License-Identifier: BSD-3-Clause
// mirrorctl init --show-join and --join: the configuration and the keys from one node to the other,
// by any way that the person trusts. The secret is never an argument of a program, where every user
// of the machine would see it, and is in no message.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "core/base/json.hpp"
#include "core/base/put_file.hpp"
#include "core/base/trusted_file.hpp"
#include "core/config/this_node.hpp"
#include "core/tls/psk_file.hpp"
#include "tools/init.hpp"
#include "tools/join_block.hpp"
#include "tools/quiet_input.hpp"

namespace mirror::tools {
namespace {

Failure no_pair(const Config& config) {
    return Failure(Error{ErrorKind::refused,
                         fmt::format("{} has {} nodes, and a block to join by is for one of a pair",
                                     config.path, config.nodes.size()),
                         "copy the file, and give each node its keys: mirrorctl keygen says how"});
}

Result<JoinBlock> block_of(const Options& options, const std::string& path) {
    const auto config = load_config(path);
    if (!config) {
        return Failure(config.error());
    }
    const auto node = this_node(*config, options.node);
    if (!node) {
        return Failure(node.error());
    }
    if (config->nodes.size() != 2) {
        return no_pair(*config);
    }
    const auto text = read_trusted_file(path, longest_config_file);
    if (!text) {
        return Failure(text.error());
    }
    JoinBlock block{.from = (*node)->name, .config = *text};
    if (config->tls.mode == TlsMode::psk) {
        auto keys = tls::read_psk_file(config->tls.psk_file);
        if (!keys) {
            return Failure(keys.error());
        }
        block.keys = tls::secret_text_of(*keys);
    }
    return block;
}

/// What is read is wiped: the lines have the keys.
Result<tls::Secret> read_letters(std::istream& in) {
    tls::Secret letters;
    bool has_begun = false;
    for (std::string line; std::getline(in, line);) {
        const bool is_begin = line.find(join_begin) != std::string::npos;
        const bool is_end = line.find(join_end) != std::string::npos;
        if (has_begun && is_end) {
            return letters;
        }
        if (has_begun && !is_begin) {
            for (const char letter : line) {
                if (std::isspace(static_cast<unsigned char>(letter)) == 0) {
                    letters.push_back(static_cast<std::byte>(letter));
                }
            }
        }
        has_begun = has_begun || is_begin;
        ::explicit_bzero(line.data(), line.size());
        if (letters.size() > longest_join_block) {
            break;
        }
    }
    return Failure(
        Error{ErrorKind::invalid,
              has_begun ? fmt::format("the block has no end ({})", join_end)
                        : fmt::format("there is no block to join by ({})", join_begin),
              "on the other node: mirrorctl init --show-join, and give all of it to mirrorctl init "
              "--join here"});
}

Result<JoinBlock> receive(World& world) {
    // Before anybody is asked to paste.
    const QuietInput quiet(STDIN_FILENO);
    if (::isatty(STDIN_FILENO) == 1) {
        world.err << "paste what mirrorctl init --show-join printed on the other node (it is not "
                     "shown):\n"
                  << std::flush;
    }
    return read_letters(world.in).and_then(
        [](const tls::Secret& letters) { return decode_join(letters); });
}

struct Joining {
    JoinBlock block;
    ConfigFile file;
    Config config;
    std::string node;
    tls::PskKeys keys;
    std::string key_path;
    bool has_same_keys = false;
    std::vector<std::string> lost_keys;  ///< names of those that would go
    std::vector<std::string> warnings;
};

bool has_key(const tls::PskKeys& keys, const tls::PskKey& key) {
    return std::any_of(keys.begin(), keys.end(), [&](const tls::PskKey& each) {
        return each.name == key.name && each.secret == key.secret;
    });
}

Result<void> compare_keys(Joining& joining) {
    if (joining.config.tls.mode != TlsMode::psk) {
        joining.has_same_keys = true;
        if (joining.config.tls.mode == TlsMode::x509) {
            joining.warnings.push_back(
                fmt::format("with tls = \"x509\" the certificate of {} is put into {} by you",
                            joining.node, joining.config.tls.x509_dir));
        }
        return {};
    }
    auto keys = tls::parse_psk_keys(joining.block.keys.text(), "the block");
    if (!keys) {
        return Failure(keys.error());
    }
    joining.keys = std::move(*keys);
    struct stat status {};
    if (::lstat(joining.key_path.c_str(), &status) != 0) {
        return {};
    }
    const auto own = tls::read_psk_file(joining.key_path);
    const auto legible = own ? own : tls::legible_keys(joining.key_path);
    if (!legible) {
        return Failure(legible.error());
    }
    for (const tls::PskKey& key : *legible) {
        if (!has_key(joining.keys, key)) {
            joining.lost_keys.push_back(key.name);
        }
    }
    joining.has_same_keys = own && joining.lost_keys.empty() && own->size() == joining.keys.size();
    return {};
}

Result<Joining> prepare(JoinBlock block, const Options& options, const std::string& path) {
    auto config = read_config(block.config, path);
    if (!config) {
        return Failure(as_one_error(config.error()));
    }
    const auto node = this_node(*config, options.node);
    if (!node) {
        return Failure(node.error().within("the block is not for this machine"));
    }
    if ((*node)->name == block.from) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("the block comes from {}, and this is {}", block.from, (*node)->name),
                  "give it to the other node; or say which node this is: --node NAME"});
    }
    auto file = compare_config(path, block.config);
    if (!file) {
        return Failure(file.error());
    }
    Joining joining{.block = std::move(block),
                    .file = std::move(*file),
                    .config = *config,
                    .node = (*node)->name,
                    .keys = {},
                    .key_path = config->tls.psk_file,
                    .lost_keys = {},
                    .warnings = {}};
    if (const std::string why = why_not_own_address((*node)->address); !why.empty()) {
        joining.warnings.push_back(fmt::format("the address of {}: {}", joining.node, why));
    }
    if (auto compared = compare_keys(joining); !compared) {
        return Failure(compared.error());
    }
    return joining;
}

Result<void> require_own_keys(const Joining& joining, bool force) {
    if (joining.lost_keys.empty() || force) {
        return {};
    }
    return Failure(Error{ErrorKind::refused,
                         fmt::format("{} has other keys, which would go: {}", joining.key_path,
                                     fmt::join(joining.lost_keys, ", ")),
                         "replace them with --force, if no other node uses them"});
}

Result<void> carry_out(const Joining& joining) {
    if (!joining.has_same_keys) {
        const std::string folder = std::filesystem::path(joining.key_path).parent_path().string();
        auto written = make_folder(folder, 0755).and_then([&] {
            return tls::write_psk_file(joining.key_path, joining.keys);
        });
        if (!written) {
            return written;
        }
    }
    return joining.file.is_the_same ? Result<void>() : write_config(joining.file);
}

int tell(const Joining& joining, const Options& options, World& world) {
    const bool is_done = joining.has_same_keys && joining.file.is_the_same;
    const std::string files = joining.config.tls.mode == TlsMode::psk
                                  ? fmt::format("{} and {}", joining.file.path, joining.key_path)
                                  : joining.file.path;
    const std::string text = is_done ? fmt::format("nothing to do: {} is set up as {} says",
                                                   joining.node, joining.block.from)
                                     : fmt::format("{} {}: this is {}, the peer of {}",
                                                   options.dry_run ? "would write" : "wrote", files,
                                                   joining.node, joining.block.from);
    std::vector<std::string> next{"systemctl enable --now mirrord"};
    if (options.json) {
        print_json({{"ok", true},
                    {"text", text},
                    {"changed", !is_done && !options.dry_run},
                    {"dry_run", options.dry_run},
                    {"node", joining.node},
                    {"peer", joining.block.from},
                    {"path", joining.file.path},
                    {"psk_file", joining.key_path},
                    {"lost", joining.file.is_the_same ? Json::array() : Json(joining.file.lost)},
                    {"lost_keys", joining.lost_keys},
                    {"warnings", joining.warnings},
                    {"next", Json::array({{{"node", joining.node}, {"command", next.front()}}})}},
                   world);
        return exit_done;
    }
    world.out << text << '\n';
    for (const std::string& warning : joining.warnings) {
        world.out << fmt::format("warning: {}\n", warning);
    }
    world.out << fmt::format("next:\n  on {}  {}\n  on {}  mirrorctl check\n", joining.node,
                             next.front(), joining.block.from);
    for (const auto& [name, volume] : joining.config.volumes) {
        world.out << fmt::format(
            "  on {0}  mirrorctl create {1}\n  on {0}  mirrorctl promote {1}\n", joining.block.from,
            name);
    }
    return exit_done;
}

}  // namespace

int init_show_join(const Options& options, const std::string& path, World& world) {
    const auto block = block_of(options, path);
    if (!block) {
        return report(block.error(), options, world);
    }
    const tls::Secret text = encode_join(*block);
    if (options.json) {
        print_json({{"ok", true}, {"node", block->from}, {"join", std::string(text.text())}},
                   world);
        return exit_done;
    }
    if (world.terminal.is_tty) {
        world.err << "anyone who sees these lines can join the pair: give them to the other "
                     "node only\n";
    }
    world.out << text.text() << std::flush;
    return exit_done;
}

int init_join(const Options& options, const std::string& path, World& world) {
    auto block = receive(world);
    if (!block) {
        return report(block.error(), options, world);
    }
    const auto joining = prepare(std::move(*block), options, path);
    if (!joining) {
        return report(joining.error(), options, world);
    }
    const bool may_replace = options.force || options.dry_run;
    auto done = require_replaceable(joining->file, may_replace).and_then([&] {
        return require_own_keys(*joining, may_replace);
    });
    if (done && !options.dry_run) {
        done = carry_out(*joining);
    }
    return done ? tell(*joining, options, world) : report(done.error(), options, world);
}

}  // namespace mirror::tools
