// SPDX-License-Identifier: BSD-3-Clause
// What mirrorctl keygen does to a file of keys: the file as it becomes, and what each other node is
// to be given. Reads and writes no file. Pure but for random numbers.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/tls/psk_file.hpp"

namespace mirror::tools {

/// How another node comes to its keys.
enum class Way {
    copy,        ///< of this node's file: it has the same keys
    whole_file,  ///< one that is made for it, in place of what it has
    take,        ///< `keygen --take` there adds them to what it has
    itself,      ///< the same step is run there
};

struct Handout {
    std::string node;
    Way way = Way::copy;
    tls::PskKeys keys{};  ///< for whole_file and take
};

struct KeyPlan {
    tls::PskKeys keys;  ///< of this node
    std::string done;   ///< what was done, a sentence
    std::string next;   ///< what comes when all nodes have theirs
    std::vector<Handout> others{};
};

/// Who the keys are for. `with`: only those with that node; empty: with all.
struct KeyOwners {
    std::string node;
    std::vector<std::string> others;
    std::string with{};
};

/// Keys of each two nodes, where there is none yet.
[[nodiscard]] Result<KeyPlan> plan_first(const KeyOwners& owners);
/// Successors of what there is; `pairs`: keys of each two nodes as successors of the cluster's.
[[nodiscard]] Result<KeyPlan> plan_add(tls::PskKeys keys, const KeyOwners& owners, bool pairs);
[[nodiscard]] Result<KeyPlan> plan_next(tls::PskKeys keys, const KeyOwners& owners);
[[nodiscard]] Result<KeyPlan> plan_retire(tls::PskKeys keys, const KeyOwners& owners);
/// Without any key that is shared with `owners.with`.
[[nodiscard]] Result<KeyPlan> plan_remove(tls::PskKeys keys, const KeyOwners& owners);
/// With those that another node made for this one.
[[nodiscard]] Result<KeyPlan> plan_take(tls::PskKeys keys, const tls::PskKeys& given,
                                        const KeyOwners& owners);

}  // namespace mirror::tools
