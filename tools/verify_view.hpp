// SPDX-License-Identifier: BSD-3-Clause
// The comparison of both replicas (`peers[].verify` of the status) as text. Pure.
#pragma once

#include <optional>
#include <string>

#include "tools/fields.hpp"
#include "tools/progress.hpp"

namespace mirror::tools {

/// That of the volume's peer; null when the daemon tells nothing of it.
[[nodiscard]] const Json& verify_of(const Json& volume);
[[nodiscard]] Progress verify_progress(const Json& verify);
/// Bytes that were found to differ and are not repaired.
[[nodiscard]] std::uint64_t bytes_left(const Json& verify);
/// The same, of the last whole comparison where one is under way that has not got there yet.
[[nodiscard]] std::uint64_t unrepaired_bytes(const Json& verify);

/// For the status: "2026-03-01 12:33 (3 days ago): equal"; while it runs, how far it is.
[[nodiscard]] std::string verify_words(const Json& verify, const std::string& volume, WallTime now);
/// How it ended, and the ranges that still differ: lines for `verify --wait`.
[[nodiscard]] std::string verify_verdict(const Json& verify, const std::string& volume);

}  // namespace mirror::tools
