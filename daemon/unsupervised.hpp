// SPDX-License-Identifier: BSD-3-Clause
// Engines of this node that no VolumeKeeper looks after: nobody starts them again, demotes them or
// tells them of a peer. They are named wherever a person looks. Any thread.
#pragma once

#include <string>
#include <vector>

#include "daemon/keepers.hpp"
#include "daemon/running_engines.hpp"

namespace mirror::daemon {

struct Unsupervised {
    RunningEngine process;
    std::string text;    ///< a sentence
    std::string remedy;  ///< what to do
};

[[nodiscard]] std::vector<Unsupervised> unsupervised(const Context& context,
                                                     const Keepers& keepers);

}  // namespace mirror::daemon
