// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/psk_file.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <gnutls/crypto.h>
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
constexpr std::size_t longest_file = 65536;
constexpr char separator = '+';  // in no node's name
constexpr std::size_t digits_of_id = 6;
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
Secret bytes_of(std::string_view hex) {
    if (hex.size() % 2 != 0) {
        return {};
    }
    Secret bytes(hex.size() / 2);
    for (std::size_t at = 0; at < hex.size(); at += 2) {
        const int high = digit_of(hex[at]);
        const int low = digit_of(hex[at + 1]);
        if (high < 0 || low < 0) {
            return {};
        }
        bytes.data()[at / 2] = static_cast<std::byte>(high * 16 + low);
    }
    return bytes;
}

constexpr std::string_view digits = "0123456789abcdef";

/// Each digit where it is to be, so that no copy of them is left anywhere.
template <typename Bytes, typename Put>
void put_hex(const Bytes& bytes, const Put& put) {
    for (const std::byte byte : bytes) {
        put(digits[std::to_integer<std::size_t>(byte) >> 4U]);
        put(digits[std::to_integer<std::size_t>(byte) & 15U]);
    }
}

template <typename Bytes>
std::string hex_of(const Bytes& bytes) {
    std::string text;
    put_hex(bytes, [&](char digit) { text.push_back(digit); });
    return text;
}

/// The next line of what is left.
std::string_view take_line(std::string_view& rest) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return line;
}

Result<PskKey> parse_line(std::string_view line, const std::string& where) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) {
        return fail(ErrorKind::invalid, "{}: not a line NAME:HEX", where);
    }
    PskKey key{std::string(line.substr(0, colon)), bytes_of(line.substr(colon + 1))};
    if (!is_valid_name(key.name) && !direction_of(key.name)) {
        return fail(ErrorKind::invalid,
                    "{}: a key's name is 1 to 63 of a-z A-Z 0-9 . _ -, or CLIENT+SERVER+ID", where);
    }
    if (key.secret.size() < least_secret || key.secret.size() > most_secret) {
        return fail(ErrorKind::invalid, "{}: the key '{}' is not {} to {} bytes in hexadecimal",
                    where, key.name, least_secret, most_secret);
    }
    return key;
}

Result<Secret> read_all(int file, const std::string& path) {
    Secret text(longest_file + 1);
    std::size_t have = 0;
    while (have < text.size()) {
        const ssize_t got = ::read(file, text.data() + have, text.size() - have);
        if (got < 0) {
            return fail_errno(errno, path);
        }
        if (got == 0) {
            break;
        }
        have += static_cast<std::size_t>(got);
    }
    if (have > longest_file) {
        return fail(ErrorKind::invalid, "{} has more than {} bytes: it is not a key file", path,
                    longest_file);
    }
    text.resize(have);
    return text;
}

Result<void> check_addition(const PskKeys& keys, const PskKey& key, const std::string& path) {
    const auto direction = direction_of(key.name);
    std::size_t alike = 0;
    for (const PskKey& each : keys) {
        if (each.name == key.name) {
            return fail(ErrorKind::invalid, "{}: two keys are named '{}'", path, key.name);
        }
        alike += direction_of(each.name) == direction ? 1U : 0U;
    }
    if (alike >= most_psk_keys || keys.size() >= most_psk_lines) {
        return fail(
            ErrorKind::invalid, "{} has more than {} keys{}: the one in use and its successor",
            path, most_psk_keys,
            direction ? fmt::format(" from {} to {}", direction->client, direction->server) : "");
    }
    return {};
}

Result<PskKey> random_key(const std::string& stem) {
    PskKey key{stem, Secret(usual_secret)};
    std::array<std::byte, digits_of_id / 2> id{};
    if (::getrandom(key.secret.data(), usual_secret, 0) != static_cast<ssize_t>(usual_secret) ||
        ::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
        return fail_errno(errno, "random bytes for a key");
    }
    key.name += hex_of(id);
    return key;
}

}  // namespace

std::optional<Direction> direction_of(const std::string& name) {
    const std::size_t first = name.find(separator);
    const std::size_t second = first == std::string::npos ? first : name.find(separator, first + 1);
    if (second == std::string::npos || name.size() > longest_key_name) {
        return std::nullopt;
    }
    Direction direction{name.substr(0, first), name.substr(first + 1, second - first - 1)};
    const bool is_one = is_valid_name(direction.client) && is_valid_name(direction.server) &&
                        is_valid_name(name.substr(second + 1)) &&
                        direction.client != direction.server;
    return is_one ? std::optional(std::move(direction)) : std::nullopt;
}

const PskKey* key_towards(const PskKeys& keys, const Direction& direction) {
    for (const PskKey& key : keys) {
        if (direction_of(key.name).value_or(direction) == direction) {
            return &key;
        }
    }
    return nullptr;
}

PskKeys keys_accepted(PskKeys keys, const std::string& server,
                      const std::vector<std::string>& clients) {
    std::erase_if(keys, [&](const PskKey& key) {
        const auto direction = direction_of(key.name);
        return direction &&
               (direction->server != server ||
                std::find(clients.begin(), clients.end(), direction->client) == clients.end());
    });
    return keys;
}

Result<PskKeys> parse_psk_keys(std::string_view text, const std::string& path) {
    PskKeys keys;
    for (int number = 1; !text.empty(); ++number) {
        const std::string_view line = take_line(text);
        if (line.empty() || line.front() == '#') {
            continue;
        }
        auto key = parse_line(line, fmt::format("{}:{}", path, number));
        if (!key) {
            return Failure(key.error());
        }
        if (auto fits = check_addition(keys, *key, path); !fits) {
            return Failure(fits.error());
        }
        keys.push_back(std::move(*key));
    }
    if (keys.empty()) {
        return Failure(Error{ErrorKind::invalid, path + " has no key", std::string(how_to_make)});
    }
    return keys;
}

Secret secret_text_of(const PskKeys& keys) {
    Secret text;
    const auto put = [&](char letter) { text.push_back(static_cast<std::byte>(letter)); };
    const auto put_all = [&](std::string_view letters) {
        std::for_each(letters.begin(), letters.end(), put);
    };
    put_all(
        "# mirrordisk: anyone who has this file can join the cluster: only root may read it. The "
        "first key\n"
        "# that matches is used, all that match are accepted; see KEYS in mirrord(8).\n");
    for (const PskKey& key : keys) {
        put_all(key.name);
        put(':');
        put_hex(key.secret, put);
        put('\n');
    }
    return text;
}

std::string text_of(const PskKeys& keys) {
    return std::string(secret_text_of(keys).text());
}

Result<PskKeys> read_psk_file(const std::string& path) {
    const auto file = open_trusted_file(path, Secrecy::secret);
    if (file) {
        auto text = read_all(file->get(), path);
        return text ? parse_psk_keys(text->text(), path) : Failure(text.error());
    }
    Error error = file.error().within("the cluster's key");
    if (error.kind == ErrorKind::not_found) {
        error.remedy = fmt::format("{} on one node, and copy it to the others", how_to_make);
    } else if (error.kind == ErrorKind::refused) {
        error.remedy +=
            "; a key that others know protects nothing: if they may have read it, replace it: "
            "mirrorctl keygen --add";
    }
    return Failure(std::move(error));
}

Result<PskKeys> legible_keys(const std::string& path) {
    const auto file = open_to_show(path);
    if (!file) {
        return Failure(file.error());
    }
    const auto text = read_all(file->get(), path);
    if (!text && text.error().os_error != 0) {
        return Failure(text.error());
    }
    PskKeys keys;
    for (std::string_view rest = text ? text->text() : ""; !rest.empty();) {
        if (auto key = parse_line(take_line(rest), path)) {
            keys.push_back(std::move(*key));
        }
    }
    return keys;
}

std::string digest_of(const PskKey& key) {
    Secret text;
    text.reserve(key.name.size() + 1 + key.secret.size());
    for (const char letter : key.name) {
        text.push_back(static_cast<std::byte>(letter));
    }
    text.push_back(std::byte{0});  // in no name
    for (const std::byte byte : key.secret) {
        text.push_back(byte);
    }
    std::array<std::byte, 32> digest{};
    const int status = gnutls_hash_fast(GNUTLS_DIG_SHA256, text.data(), text.size(), digest.data());
    return status == 0 ? hex_of(digest) : std::string();
}

Result<void> write_psk_file(const std::string& path, const PskKeys& keys) {
    const std::string folder = std::filesystem::absolute(path).parent_path().string();
    if (const auto trusted = require_trusted_path(folder); !trusted) {
        return Failure(trusted.error());
    }
    const std::string fresh = path + ".new";
    const Secret text = secret_text_of(keys);
    const auto file = make_own_file(fresh);
    if (!file) {
        return Failure(file.error());
    }
    auto written = write_all_to(file->get(), text.text(), fresh);
    if (written && (::fsync(file->get()) != 0 || ::rename(fresh.c_str(), path.c_str()) != 0)) {
        written = fail_errno(errno, path);
    }
    if (!written) {
        (void)::unlink(fresh.c_str());
        return written;
    }
    return sync_folder(folder);
}

Result<PskKey> new_psk_key(const std::string& word) {
    return random_key(word + "-");
}

Result<PskKey> new_psk_key(const Direction& direction) {
    const std::string stem =
        fmt::format("{0}{2}{1}{2}", direction.client, direction.server, separator);
    if (stem.size() + digits_of_id > longest_key_name) {
        return fail(ErrorKind::invalid,
                    "the names {} and {} are too long together for a key of their own: at most {} "
                    "characters",
                    direction.client, direction.server, longest_key_name - digits_of_id - 2);
    }
    return random_key(stem);
}

}  // namespace mirror::tls
