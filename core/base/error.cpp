// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/error.hpp"

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

namespace mirror {
namespace {

constexpr std::array<std::pair<ErrorKind, std::string_view>, 11> kind_words{{
    {ErrorKind::refused, "refused"},
    {ErrorKind::invalid, "invalid"},
    {ErrorKind::unreachable, "unreachable"},
    {ErrorKind::timed_out, "timed-out"},
    {ErrorKind::busy, "busy"},
    {ErrorKind::not_found, "not-found"},
    {ErrorKind::no_space, "no-space"},
    {ErrorKind::io, "io"},
    {ErrorKind::corrupt, "corrupt"},
    {ErrorKind::protocol, "protocol"},
    {ErrorKind::internal, "internal"},
}};

ErrorKind kind_of_errno(int os_error) noexcept {
    switch (os_error) {
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
            return ErrorKind::no_space;
        case EBUSY:
        case EWOULDBLOCK:
        case ETXTBSY:
            return ErrorKind::busy;
        case ENOENT:
            return ErrorKind::not_found;
        case ETIMEDOUT:
            return ErrorKind::timed_out;
        case ECONNREFUSED:
        case ECONNRESET:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case ENOTCONN:
        case EPIPE:
            return ErrorKind::unreachable;
        default:
            return ErrorKind::io;
    }
}

}  // namespace

std::string_view to_string(ErrorKind kind) noexcept {
    for (const auto& [known, word] : kind_words) {
        if (known == kind) {
            return word;
        }
    }
    return "internal";
}

ErrorKind error_kind_from(std::string_view word) noexcept {
    for (const auto& [kind, known] : kind_words) {
        if (known == word) {
            return kind;
        }
    }
    return ErrorKind::internal;
}

std::string Error::text() const {
    return remedy.empty() ? message : message + "; " + remedy;
}

Error Error::within(std::string_view context) const {
    Error outer = *this;
    outer.message = fmt::format("{}: {}", context, message);
    return outer;
}

Failure fail_errno(int os_error, std::string_view what) {
    return fail_errno(os_error, what, {});
}

Failure fail_errno(int os_error, std::string_view what, std::string remedy) {
    return Failure(Error{kind_of_errno(os_error),
                         fmt::format("{}: {}", what, std::generic_category().message(os_error)),
                         std::move(remedy), os_error});
}

int errno_of(const Error& error) noexcept {
    switch (error.kind) {
        case ErrorKind::no_space:
            return ENOSPC;
        case ErrorKind::invalid:
            return EINVAL;
        case ErrorKind::refused:
            return EPERM;
        default:
            return EIO;
    }
}

}  // namespace mirror
