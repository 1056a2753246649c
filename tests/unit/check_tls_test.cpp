// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/check_tls.hpp"

#include <doctest/doctest.h>

#include "core/base/json.hpp"

using namespace mirror::daemon;

TEST_CASE(
    "a link that lives on a key which is not in the file is a fault, whatever its engine says") {
    const Json link{{"key", "k1"}, {"certificate", nullptr}, {"cipher", "AES-128-GCM"}};
    CHECK(fault_of_link(link, {"k1"}, "/etc/x.psk").empty());
    CHECK(fault_of_link(link, {"k2", "k1"}, "/etc/x.psk").empty());
    CHECK(fault_of_link(link, {"k2"}, "/etc/x.psk") == "the key k1 was removed from /etc/x.psk");
    CHECK(fault_of_link(link, {}, "/etc/x.psk").empty());  // the file's own trouble is told apart
}

TEST_CASE("what a link says of itself comes first, and one without TLS has nothing to say") {
    const Json link{{"key", nullptr}, {"certificate", "beta"}, {"fault", "it was revoked"}};
    CHECK(fault_of_link(link, {}, "") == "it was revoked");
    CHECK(fault_of_link(Json(), {"k1"}, "").empty());
    CHECK(fault_of_link({{"key", nullptr}, {"certificate", "beta"}, {"fault", nullptr}}, {}, "")
              .empty());
}
