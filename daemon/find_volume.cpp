// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/find_volume.hpp"

#include <vector>

#include "daemon/unsupervised.hpp"

namespace mirror::daemon {
namespace {

/// For somebody who asks on a node that has no part in the volume.
Error lives_elsewhere(const VolumeConfig& volume, const std::string& node) {
    std::vector<std::string> nodes;
    for (const auto& [name, path] : volume.backing) {
        nodes.push_back(name);
    }
    return {ErrorKind::not_found,
            fmt::format("volume {} has no replica on {}; it is mirrored between {}", volume.name,
                        node, fmt::join(nodes, " and ")),
            fmt::format("run mirrorctl on {}", fmt::join(nodes, " or "))};
}

}  // namespace

Result<VolumeKeeper*> find_volume(const Context& context, const Keepers& keepers,
                                  const std::string& volume) {
    const auto found = keepers.find(volume);
    if (found != keepers.end()) {
        return found->second;
    }
    for (const Unsupervised& engine : unsupervised(context, keepers)) {
        if (engine.process.volume == volume) {
            return Failure(Error{ErrorKind::not_found, engine.text, engine.remedy});
        }
    }
    const auto config = context.used().volume(volume);
    return Failure(config ? lives_elsewhere(**config, context.node.name) : config.error());
}

}  // namespace mirror::daemon
