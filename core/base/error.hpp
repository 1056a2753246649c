// SPDX-License-Identifier: BSD-3-Clause
// How failures travel: every function that can fail returns Result<T>, whose error says in words
// what failed and why, so that the last reader (a person) needs no lookup. No exception crosses a
// file's border. Any thread; values only.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>
#include <tl/expected.hpp>

namespace mirror {

/// What kind of failure it is; decides exit codes and NBD errors, never the wording.
enum class ErrorKind {
    refused,      ///< understood and not done: a rule forbids it
    invalid,      ///< the request, file or message makes no sense
    unreachable,  ///< the other side could not be asked
    timed_out,    ///< the other side did not answer in time
    busy,         ///< in use by somebody else
    not_found,
    no_space,
    io,        ///< a disk or file failed
    corrupt,   ///< bytes that were read back are not what was written
    protocol,  ///< the other side broke the rules of the protocol
    internal,
};

[[nodiscard]] std::string_view to_string(ErrorKind kind) noexcept;
/// The inverse of to_string; `internal` for a word that is not known (a newer peer).
[[nodiscard]] ErrorKind error_kind_from(std::string_view word) noexcept;

struct Error {
    ErrorKind kind = ErrorKind::internal;
    std::string message;   ///< names the thing and the reason, without a full stop
    std::string remedy{};  ///< the next step or what would be accepted; may be empty
    int os_error = 0;      ///< errno where the kernel gave one, else 0

    /// The message, and the remedy where there is one: what a terminal prints.
    [[nodiscard]] std::string text() const;
    /// The same error one level up: "CONTEXT: message".
    [[nodiscard]] Error within(std::string_view context) const;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Failure = tl::unexpected<Error>;

template <typename... Args>
[[nodiscard]] Failure fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
    return Failure(Error{kind, fmt::format(format, std::forward<Args>(args)...)});
}

/// A failure made from errno: kind no_space for ENOSPC and EDQUOT, busy for EBUSY and EWOULDBLOCK,
/// not_found for ENOENT, else io. The message ends with the system's own words.
[[nodiscard]] Failure fail_errno(int os_error, std::string_view what);

/// The same with a next step.
[[nodiscard]] Failure fail_errno(int os_error, std::string_view what, std::string remedy);

/// The errno that stands for this error on an NBD connection.
[[nodiscard]] int errno_of(const Error& error) noexcept;

}  // namespace mirror
