// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/psk_file.hpp"

#include <array>
#include <cerrno>
#include <filesystem>
#include <sstream>
#include <string_view>
#include <sys/random.h>
#include <unistd.h>

#include "core/base/trusted_file.hpp"
#include "core/config/config.hpp"

namespace mirror::tls {
namespace {

constexpr std::size_t least_secret = 16;
constexpr std::size_t most_secret = 64;  // what GnuTLS takes
constexpr std::size_t usual_secret = 32;
constexpr std::size_t longest_file = 4096;
constexpr std::string_view how_to_make = "make one with: mirrorctl keygen";

int digit_of(char letter) noexcept {
    if (letter >= '0' && letter <= '9') {
        return letter - '0';
    }
    if (letter >= 'a' && letter <= 'f') {
        return letter - 'a' + 10;
    }
    if (letter >= 'A' && letter <= 'F') {
        return letter - 'A' + 10;
    }
    return -1;
}

/// Empty if it is no hexadecimal number of whole bytes.
std::vector<std::byte> bytes_of(std::string_view hex) {
    std::vector<std::byte> bytes;
    for (std::size_t at = 0; at + 1 < hex.size(); at += 2) {
        const int high = digit_of(hex[at]);
        const int low = digit_of(hex[at + 1]);
        if (high < 0 || low < 0) {
            return {};
        }
        bytes.push_back(static_cast<std::byte>(high * 16 + low));
    }
    return hex.size() % 2 == 0 ? bytes : std::vector<std::byte>{};
}

std::string hex_of(const std::vector<std::byte>& bytes) {
    std::string text;
    for (const std::byte byte : bytes) {
        text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
    }
    return text;
}

Result<PskKey> parse_line(std::string_view line, const std::string& where) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) {
        return fail(ErrorKind::invalid, "{}: not a line NAME:HEX", where);
    }
    PskKey key{std::string(line.substr(0, colon)), bytes_of(line.substr(colon + 1))};
    if (!is_valid_name(key.name)) {
        return fail(ErrorKind::invalid, "{}: a key's name is 1 to 63 of a-z A-Z 0-9 . _ -", where);
    }
    if (key.secret.size() < least_secret || key.secret.size() > most_secret) {
        return fail(ErrorKind::invalid, "{}: the key '{}' is not {} to {} bytes in hexadecimal",
                    where, key.name, least_secret, most_secret);
    }
    return key;
}

}  // namespace

Result<PskKeys> parse_psk_keys(const std::string& text, const std::string& path) {
    PskKeys keys;
    std::istringstream lines(text);
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
        if (line.empty() || line.front() == '#') {
            continue;
        }
        auto key = parse_line(line, fmt::format("{}:{}", path, number));
        if (!key) {
            return Failure(key.error());
        }
        if (!keys.empty() && keys.front().name == key->name) {
            return fail(ErrorKind::invalid, "{}: two keys are named '{}'", path, key->name);
        }
        keys.push_back(std::move(*key));
        if (keys.size() > most_psk_keys) {
            return fail(ErrorKind::invalid,
                        "{} has more than {} keys: the one in use and its successor", path,
                        most_psk_keys);
        }
    }
    if (keys.empty()) {
        return Failure(Error{ErrorKind::invalid, path + " has no key", std::string(how_to_make)});
    }
    return keys;
}

std::string text_of(const PskKeys& keys) {
    std::string text =
        "# mirrordisk: who has this file can be a node of the cluster. The same on every node, "
        "for\n"
        "# root alone. The first key is used, all are accepted; see KEYS in mirrord(8).\n";
    for (const PskKey& key : keys) {
        text += fmt::format("{}:{}\n", key.name, hex_of(key.secret));
    }
    return text;
}

Result<PskKeys> read_psk_file(const std::string& path) {
    auto text = read_trusted_file(path, longest_file, Secrecy::secret);
    if (text) {
        return parse_psk_keys(*text, path);
    }
    Error error = text.error().within("the cluster's key");
    if (error.kind == ErrorKind::not_found) {
        error.remedy = fmt::format("{} on one node, and copy it to the others", how_to_make);
    } else if (error.kind == ErrorKind::refused) {
        error.remedy +=
            "; a key that others know keeps nobody out: if they may have read it, replace it: "
            "mirrorctl keygen --add";
    }
    return Failure(std::move(error));
}

Result<void> write_psk_file(const std::string& path, const PskKeys& keys) {
    const std::string folder = std::filesystem::absolute(path).parent_path().string();
    if (const auto trusted = require_trusted_path(folder); !trusted) {
        return Failure(trusted.error());
    }
    const std::string fresh = path + ".new";
    const auto file = make_own_file(fresh);
    if (!file) {
        return Failure(file.error());
    }
    auto written = write_all_to(file->get(), text_of(keys), fresh);
    if (written && (::fsync(file->get()) != 0 || ::rename(fresh.c_str(), path.c_str()) != 0)) {
        written = fail_errno(errno, path);
    }
    if (!written) {
        (void)::unlink(fresh.c_str());
        return written;
    }
    return sync_folder(folder);
}

Result<PskKey> new_psk_key(const std::string& date) {
    std::array<std::byte, usual_secret + 3> random{};
    if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
        return fail_errno(errno, "random bytes for a key");
    }
    const auto secret_end = random.begin() + usual_secret;
    return PskKey{fmt::format("{}-{}", date, hex_of({secret_end, random.end()})),
                  {random.begin(), secret_end}};
}

}  // namespace mirror::tls
