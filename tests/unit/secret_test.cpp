// SPDX-License-Identifier: BSD-3-Clause
// Where keys are, and where they are not when nobody needs them any more.
#include "core/tls/secret.hpp"

#include <array>
#include <fcntl.h>
#include <fstream>
#include <optional>
#include <sstream>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "tls_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

constexpr std::byte mask{0x5a};

/// Bytes that this program can look for without having them anywhere.
class Pattern {
  public:
    template <typename Bytes>
    explicit Pattern(const Bytes& bytes) {
        for (const auto byte : bytes) {
            masked_.push_back(static_cast<std::byte>(byte) ^ mask);
        }
    }
    [[nodiscard]] std::size_t count_in(const std::vector<std::byte>& memory) const {
        std::size_t found = 0;
        for (std::size_t at = 0; at + masked_.size() <= memory.size(); ++at) {
            std::size_t same = 0;
            while (same < masked_.size() && (memory[at + same] ^ mask) == masked_[same]) {
                ++same;
            }
            found += same == masked_.size() ? 1U : 0U;
        }
        return found;
    }

  private:
    std::vector<std::byte> masked_;
};

/// In all of this process's memory that it can write to, but for what is read into here.
std::size_t count_in_memory(const Pattern& pattern) {
    const Fd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
    REQUIRE(memory.is_open());
    std::ifstream maps("/proc/self/maps");
    std::size_t found = 0;
    std::vector<std::byte> part;
    for (std::string line; std::getline(maps, line);) {
        std::istringstream words(line);
        std::uintptr_t begin = 0;
        std::uintptr_t end = 0;
        char dash = 0;
        std::string permissions;
        words >> std::hex >> begin >> dash >> end >> permissions;
        if (!permissions.starts_with("rw") || line.find("[v") != std::string::npos) {
            continue;
        }
        part.assign(end - begin, std::byte{0});
        const ssize_t got =
            ::pread(memory.get(), part.data(), part.size(), static_cast<off_t>(begin));
        part.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
        // Where the buffer itself was read, it holds the part before: a finding twice.
        found += pattern.count_in(part);
        ::explicit_bzero(part.data(), part.size());
    }
    return found;
}

std::string flags_of_page(const void* address) {
    std::ifstream maps("/proc/self/smaps");
    const auto wanted = reinterpret_cast<std::uintptr_t>(address);
    bool inside = false;
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t begin = 0;
        std::uintptr_t end = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
            inside = begin <= wanted && wanted < end;
        } else if (inside && line.starts_with("VmFlags:")) {
            return line + " ";
        }
    }
    return {};
}

}  // namespace

TEST_CASE("a secret's page is not part of a core file") {
    const tls::Secret secret(32);
    CHECK(flags_of_page(secret.data()).find(" dd ") != std::string::npos);
}

TEST_CASE("the search for a secret finds one that is there") {
    auto key = std::optional(tls::new_psk_key().value());
    const Pattern pattern(key->secret);
    CHECK(count_in_memory(pattern) >= 1);
    key.reset();
    CHECK(count_in_memory(pattern) == 0);
}

TEST_CASE(
    "after the handshake a key is nowhere, and after it was read and written neither its "
    "digits are") {
    auto key = std::optional(tls::new_psk_key().value());
    const Pattern bytes(key->secret);
    const Pattern digits([&] {
        // From the file's text, which is wiped below.
        std::string text = tls::text_of({*key});
        const std::string_view hex = std::string_view(text).substr(text.size() - 65, 64);
        Pattern pattern(hex);
        ::explicit_bzero(text.data(), text.size());
        return pattern;
    }());
    KeyedNode node({*key});
    key.reset();
    {
        auto client = node.credentials->dial("beta").value();
        auto server = node.credentials->accept().value();
        CHECK(count_in_memory(bytes) >= 2);
        REQUIRE(shake_hands(client, server).server.has_value());
        // Both go on, without it.
        CHECK(count_in_memory(bytes) == 0);
        CHECK(count_in_memory(digits) == 0);
        REQUIRE(client.send(std::vector<std::byte>(100, std::byte{1})).has_value());
        carry(client, server);
        std::vector<std::byte> into(100);
        CHECK(server.receive(into).value() == 100);
        client.say_goodbye();
    }
    CHECK(count_in_memory(bytes) == 0);
    CHECK(count_in_memory(digits) == 0);
}
