// SPDX-License-Identifier: BSD-3-Clause
// What a node needs to join a pair, as text that survives a terminal: the configuration and the
// keys, in lines of letters and digits with a checksum, so that a paste of which a part is missing
// is seen. Whoever reads it can be a node. Nothing of it is kept in memory that is given back.
// Pure.
#pragma once

#include <string>
#include <string_view>

#include "core/base/error.hpp"
#include "core/tls/secret.hpp"

namespace mirror::tools {

struct JoinBlock {
    std::string from;    ///< the node that made it
    std::string config;  ///< the file's text
    tls::Secret keys{};  ///< the text of the file of keys; empty: none is used
};

inline constexpr std::string_view join_begin = "-----BEGIN MIRRORDISK JOIN-----";
inline constexpr std::string_view join_end = "-----END MIRRORDISK JOIN-----";
/// A configuration of its longest, keys, and what the letters cost.
inline constexpr std::size_t longest_join_block = std::size_t{3} << 20;

/// Whole lines, the first and the last one included.
[[nodiscard]] tls::Secret encode_join(const JoinBlock& block);
/// `letters`: what stood between the two lines, without line ends and blanks.
[[nodiscard]] Result<JoinBlock> decode_join(const tls::Secret& letters);

}  // namespace mirror::tools
