// SPDX-License-Identifier: BSD-3-Clause
#include "core/tls/psk_file.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <sstream>
#include <string_view>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/fd.hpp"
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

/// Who can read it can be a peer.
Result<void> check_secrecy(int file, const std::string& path) {
    struct stat status {};
    if (::fstat(file, &status) != 0) {
        return fail_errno(errno, path);
    }
    if (!S_ISREG(status.st_mode)) {
        return fail(ErrorKind::refused, "{} is not a regular file", path);
    }
    if (status.st_uid != 0 && status.st_uid != ::geteuid()) {
        return Failure(
            Error{ErrorKind::refused,
                  fmt::format("{} belongs to uid {}, who could change it", path, status.st_uid),
                  fmt::format("run: chown root {}", path)});
    }
    if ((status.st_mode & 077) != 0) {
        return Failure(Error{ErrorKind::refused,
                             fmt::format("{} can be read or written by others (mode {:04o}): a key "
                                         "that others know keeps nobody out",
                                         path, status.st_mode & 07777),
                             fmt::format("run: chmod 600 {}, and if others may have read it, "
                                         "replace the key: mirrorctl keygen --add",
                                         path)});
    }
    return {};
}

Result<std::string> read_all(int file, const std::string& path) {
    std::string text(longest_file + 1, '\0');
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
        return fail(ErrorKind::invalid, "{} has more than {} bytes: it is no file of keys", path,
                    longest_file);
    }
    text.resize(have);
    return text;
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
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.is_open()) {
        const int os_error = errno;
        return fail_errno(
            os_error, fmt::format("the cluster's key {}", path),
            os_error == ENOENT
                ? fmt::format("{} on one node, and copy it to the others", how_to_make)
                : std::string());
    }
    if (auto secret = check_secrecy(file.get(), path); !secret) {
        return Failure(secret.error());
    }
    auto text = read_all(file.get(), path);
    return text ? parse_psk_keys(*text, path) : Failure(text.error());
}

Result<void> write_psk_file(const std::string& path, const PskKeys& keys) {
    const std::string fresh = path + ".new";
    const std::string text = text_of(keys);
    (void)::unlink(fresh.c_str());
    Fd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.is_open()) {
        return fail_errno(errno, fresh);
    }
    if (::fchmod(file.get(), 0600) != 0 ||
        ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
        ::fsync(file.get()) != 0 || ::rename(fresh.c_str(), path.c_str()) != 0) {
        const int os_error = errno;
        (void)::unlink(fresh.c_str());
        return fail_errno(os_error, path);
    }
    const std::string folder = std::filesystem::path(path).parent_path().string();
    const Fd directory(
        ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.is_open() || ::fsync(directory.get()) != 0) {
        return fail_errno(errno, folder);
    }
    return {};
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
