// SPDX-License-Identifier: BSD-3-Clause
#include "tools/support/redactor.hpp"

#include <algorithm>
#include <cctype>

namespace mirror::tools {
namespace {

constexpr std::string_view taken = "[removed: key]";
/// A key has 16 bytes at least, and so do ids.
constexpr std::size_t shortest_key = 32;
constexpr std::size_t longer_than_ids = 40;

bool is_hex(char byte) noexcept {
    return std::isxdigit(static_cast<unsigned char>(byte)) != 0;
}

char lower(char byte) noexcept {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(byte)));
}

bool is_of_a_name(char byte) noexcept {
    return std::isalnum(static_cast<unsigned char>(byte)) != 0 || byte == '.' || byte == '_' ||
           byte == '-' || byte == '+';
}

/// "NAME:" stands before it, as in a file of keys.
bool has_a_keys_name(std::string_view before) noexcept {
    return before.size() >= 2 && before.back() == ':' && is_of_a_name(before[before.size() - 2]);
}

bool contains(std::string_view text, std::string_view digits) {
    return std::search(text.begin(), text.end(), digits.begin(), digits.end(),
                       [](char a, char b) { return lower(a) == b; }) != text.end();
}

}  // namespace

void Redactor::add(const tls::Secret& secret) {
    if (secret.empty()) {
        return;
    }
    tls::Secret digits;
    digits.reserve(2 * secret.size());
    for (const std::byte byte : secret) {
        for (const unsigned half :
             {std::to_integer<unsigned>(byte) >> 4U, std::to_integer<unsigned>(byte) & 15U}) {
            digits.push_back(static_cast<std::byte>("0123456789abcdef"[half]));
        }
    }
    bytes_.push_back(secret);
    digits_.push_back(std::move(digits));
}

std::string Redactor::clean(std::string text) {
    return without_digits(without_bytes(without_pem(std::move(text))));
}

std::string Redactor::without_pem(std::string text) {
    constexpr std::string_view begin = "-----BEGIN ";
    constexpr std::string_view kind = "PRIVATE KEY-----";
    constexpr std::string_view end = "-----END ";
    for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at)) {
        const std::size_t line = std::min(text.find('\n', at), text.size());
        if (std::string_view(text).substr(at, line - at).find(kind) == std::string_view::npos) {
            at += begin.size();
            continue;
        }
        const std::size_t last = text.find(end, at);
        const std::size_t stop =
            last == std::string::npos ? last : text.find(kind, last + end.size());
        text.replace(at, stop == std::string::npos ? stop : stop + kind.size() - at, taken);
        ++removed_;
    }
    return text;
}

std::string Redactor::without_bytes(std::string text) {
    for (const tls::Secret& secret : bytes_) {
        for (std::size_t at = text.find(secret.text()); at != std::string::npos;
             at = text.find(secret.text(), at)) {
            text.replace(at, secret.size(), taken);
            ++removed_;
        }
    }
    return text;
}

bool Redactor::has_known_digits(std::string_view run) const {
    return std::any_of(digits_.begin(), digits_.end(),
                       [&](const tls::Secret& digits) { return contains(run, digits.text()); });
}

std::string Redactor::without_digits(const std::string& text) {
    std::string kept;
    kept.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        const auto start = text.begin() + static_cast<std::ptrdiff_t>(at);
        const auto stop = std::find_if_not(start, text.end(), is_hex);
        const std::string_view run =
            std::string_view(text).substr(at, static_cast<std::size_t>(stop - start));
        const bool is_key =
            run.size() >= longer_than_ids ||
            (run.size() >= shortest_key &&
             (has_a_keys_name(std::string_view(text).substr(0, at)) || has_known_digits(run)));
        if (is_key) {
            kept += taken;
            ++removed_;
        } else {
            kept += run;
        }
        at += run.size();
        if (run.empty()) {
            kept += text[at++];
        }
    }
    return kept;
}

}  // namespace mirror::tools
