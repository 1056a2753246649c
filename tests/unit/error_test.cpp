// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/error.hpp"

#include <cerrno>

#include <doctest/doctest.h>

using namespace mirror;

TEST_CASE("an error from errno keeps the system's words and its kind") {
    const Error error = fail_errno(ENOSPC, "/srv/r0.img").value();
    CHECK(error.kind == ErrorKind::no_space);
    CHECK(error.message == "/srv/r0.img: No space left on device");
    CHECK(error.os_error == ENOSPC);
}

TEST_CASE("context goes in front, the remedy stays") {
    const Error inner{ErrorKind::busy, "locked by pid 7", "stop it"};
    CHECK(inner.within("volume r0").text() == "volume r0: locked by pid 7; stop it");
}

TEST_CASE("every kind survives its word") {
    for (int kind = 0; kind <= static_cast<int>(ErrorKind::internal); ++kind) {
        CHECK(error_kind_from(to_string(static_cast<ErrorKind>(kind))) ==
              static_cast<ErrorKind>(kind));
    }
    CHECK(error_kind_from("a word of the future") == ErrorKind::internal);
}

TEST_CASE("only a full disk reaches a client as ENOSPC") {
    CHECK(errno_of(Error{ErrorKind::no_space, ""}) == ENOSPC);
    CHECK(errno_of(Error{ErrorKind::unreachable, ""}) == EIO);
    CHECK(errno_of(Error{ErrorKind::timed_out, ""}) == EIO);
}
