// SPDX-License-Identifier: BSD-3-Clause
// One dead node is the reason for all of its volumes: in an overview it is named once, with its
// volumes, and each piece of advice once. Pure.
#pragma once

#include <string>
#include <vector>

#include "tools/status_view.hpp"

namespace mirror::tools {

class SilentNodes {
  public:
    /// `unwell`: the volumes of that status about which there is something to say. Both outlive
    /// this.
    SilentNodes(const Json& status, const std::vector<const Json*>& unwell);

    /// Its node's lines say what there is to say of it.
    [[nodiscard]] bool speak_for(const Json& volume) const;
    /// Empty: there is none with several volumes.
    [[nodiscard]] std::string lines(WallTime now) const;

  private:
    struct Node {
        const Json* entry;  ///< of the status's `nodes`
        std::vector<const Json*> volumes;
    };
    std::vector<Node> nodes_;
};

}  // namespace mirror::tools
