// SPDX-License-Identifier: BSD-3-Clause
#include "tools/support/redactor.hpp"

#include <cctype>
#include <string>

#include <doctest/doctest.h>

using namespace mirror;
using namespace mirror::tools;

namespace {

tls::Secret secret_of(std::string_view bytes) {
    tls::Secret secret;
    for (const char byte : bytes) {
        secret.push_back(static_cast<std::byte>(byte));
    }
    return secret;
}

const std::string id = "1a2b3c4d5e6f708090a0b0c0d0e0f000";  // 16 bytes, as those of generations
const std::string long_key = id + id;

}  // namespace

TEST_CASE("what looks like a key is taken out, and ids are not") {
    Redactor redactor;
    CHECK(redactor.clean("psk = " + long_key + "!") == "psk = [removed: key]!");
    CHECK(redactor.clean("# key-4f3a9c:" + id + "\n") == "# key-4f3a9c:[removed: key]\n");
    CHECK(redactor.removed() == 2);
    const std::string status = "{\"generation\":\"" + id + "\", \"session\": \"" + id + "\"}";
    CHECK(redactor.clean(status) == status);
    CHECK(redactor.clean("") == "");
    CHECK(redactor.removed() == 2);
}

TEST_CASE("a private key is taken out, with and without its end") {
    Redactor redactor;
    CHECK(
        redactor.clean("a\n-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nb") ==
        "a\n[removed: key]\nb");
    CHECK(redactor.clean("a\n-----BEGIN PRIVATE KEY-----\nMHc") == "a\n[removed: key]");
    const std::string certificate = "-----BEGIN CERTIFICATE-----\nMHc\n-----END CERTIFICATE-----";
    CHECK(redactor.clean(certificate) == certificate);
}

TEST_CASE("a key that is known is taken out as bytes and as digits, whatever stands around it") {
    Redactor redactor;
    const std::string key = "sixteen bytes !?";
    redactor.add(secret_of(key));
    redactor.add({});
    const std::string digits = "7369787465656e20627974657320213f";
    CHECK(redactor.clean("x" + key + key + "y") == "x[removed: key][removed: key]y");
    CHECK(redactor.clean("\"" + digits + "\"") == "\"[removed: key]\"");
    std::string upper = digits;
    for (char& digit : upper) {
        digit = static_cast<char>(std::toupper(static_cast<unsigned char>(digit)));
    }
    CHECK(redactor.clean("ab" + upper + "cd") == "[removed: key]");
    CHECK(redactor.clean(id) == id);
}
