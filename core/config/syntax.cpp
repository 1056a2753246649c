// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/syntax.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace mirror {
namespace {

/// Each costs a run of the parser.
constexpr int most_repairs = 50;

struct Line {
    std::size_t at = 0;  ///< in the text
    std::string_view text;
};

struct Judgement {
    std::string key;
    std::string reason;
    std::string accepted{};
    std::string repaired{};  ///< the line without the mistake; empty: the parser can't continue
};

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r";
    const std::size_t first = text.find_first_not_of(blanks);
    return first == std::string_view::npos
               ? std::string_view()
               : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

Line line_of(std::string_view text, std::size_t number) {
    Line line;
    for (std::size_t before = 1; before < number; ++before) {
        const std::size_t end = text.find('\n', line.at);
        if (end == std::string_view::npos) {
            break;
        }
        line.at = end + 1;
    }
    line.text = text.substr(line.at, text.find('\n', line.at) - line.at);
    return line;
}

/// "volume.r0." of the table that the line stands in, for the name of a key.
std::string table_above(std::string_view text, std::size_t line_at) {
    while (line_at > 0) {
        const std::size_t begin = text.rfind('\n', line_at - 1);
        const std::size_t start = line_at < 2 ? 0 : text.rfind('\n', line_at - 2) + 1;
        const std::string_view line = trimmed(text.substr(start, begin - start));
        if (line.starts_with('[')) {
            const std::size_t end = line.find(']');
            return end == std::string_view::npos ? std::string()
                                                 : std::string(line.substr(1, end - 1)) + ".";
        }
        line_at = start;
    }
    return {};
}

/// Typographic quotes come from word processors and web pages.
constexpr std::array<std::string_view, 5> curly_quotes{
    "\xe2\x80\x9c", "\xe2\x80\x9d", "\xe2\x80\x9e", "\xe2\x80\x98", "\xe2\x80\x99"};

std::string with_plain_quotes(std::string_view line) {
    std::string plain(line);
    for (const std::string_view quote : curly_quotes) {
        for (std::size_t at = plain.find(quote); at != std::string::npos; at = plain.find(quote)) {
            plain.replace(at, quote.size(), "\"");
        }
    }
    return plain;
}

bool is_bare(std::string_view key) {
    constexpr std::string_view letters =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.\"'";
    return !key.empty() && key.find_first_not_of(letters) == std::string_view::npos;
}

bool is_number(std::string_view value) {
    return !value.empty() && value.find_first_not_of("0123456789_+-") == std::string_view::npos;
}

std::string lower(std::string_view text) {
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(), [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
    });
    return result;
}

Judgement judge_table(std::string_view line, std::string_view said) {
    if (said.find("redefine") != std::string_view::npos) {
        return {std::string(line.substr(1, line.find_last_of(']') - 1)),
                "the table stands in the file twice", "put all of its keys below one of them"};
    }
    const bool is_open = line.find(']') == std::string_view::npos;
    const std::string_view name =
        trimmed(line.substr(1, std::min(line.find('#'), line.find(']')) - 1));
    return {std::string(name), is_open ? "the name of a table ends with ]" : std::string(said),
            is_open ? fmt::format("write [{}]", name)
                    : "a name with letters other than a-z A-Z 0-9 _ - must be quoted, such as "
                      "[node.\"db1.example.com\"]"};
}

Judgement judge_value(std::string_view key, std::string_view value, std::string_view comment) {
    const auto repair = [&](const std::string& right) {
        const std::string line = fmt::format("{} = {}", key, right);
        return std::pair(line, comment.empty() ? line : fmt::format("{} {}", line, comment));
    };
    if (value.starts_with('"') || value.starts_with('\'')) {
        const std::string_view inner = value.substr(1);
        if (inner.find(value.front()) != std::string_view::npos) {
            return {std::string(key), {}, {}, {}};
        }
        const auto [line, whole] = repair(fmt::format("\"{}\"", trimmed(inner)));
        return {std::string(key), "the closing quote is missing", "write " + line, whole};
    }
    if (lower(value) == "true" || lower(value) == "false") {
        const auto [line, whole] = repair(lower(value));
        return {std::string(key), "true and false are written in lower case", "write " + line,
                whole};
    }
    if (value.find_first_of("\"'[]{}=\\") != std::string_view::npos || is_number(value)) {
        return {std::string(key), {}, {}, {}};
    }
    const auto [line, whole] = repair(fmt::format("\"{}\"", value));
    return {std::string(key), "a value that is not a number must be in quotes", "quote it: " + line,
            whole};
}

Judgement judge_pair(std::string_view line, std::string_view said) {
    const std::size_t equals = line.find('=');
    const std::size_t colon = line.find(':');
    if (equals == std::string_view::npos) {
        const std::size_t end = std::min(colon, line.find_first_of(" \t"));
        const std::string_view key = trimmed(line.substr(0, end));
        std::string_view value =
            end == std::string_view::npos ? std::string_view() : trimmed(line.substr(end + 1));
        const bool is_quoted = value.size() > 1 && value.starts_with('"') && value.ends_with('"');
        const std::string right = fmt::format(
            "{} = {}", key, is_quoted ? std::string(value) : fmt::format("\"{}\"", value));
        const bool is_plain =
            is_bare(key) && !value.empty() &&
            (is_quoted || value.find_first_of("\"'[]{}#\\") == std::string_view::npos);
        return {std::string(key), "a key and its value are joined by =",
                is_plain ? "write " + right : "write KEY = \"VALUE\"", is_plain ? right : ""};
    }
    const std::string_view key = trimmed(line.substr(0, equals));
    if (said.find("redefine") != std::string_view::npos) {
        return {std::string(key), "the key stands in this table twice", "keep one of them",
                std::string("#")};
    }
    std::string_view value = line.substr(equals + 1);
    std::string_view comment;
    if (const std::size_t hash = value.find('#');
        hash != std::string_view::npos && value.find_first_of("\"'") == std::string_view::npos) {
        comment = value.substr(hash);
        value = value.substr(0, hash);
    }
    value = trimmed(value);
    if (!is_bare(key)) {
        return {std::string(key), {}, {}, {}};
    }
    if (value.empty()) {
        return {std::string(key), "the value is missing",
                fmt::format("write {} = \"VALUE\", or remove the line", key), std::string("#")};
    }
    return judge_value(key, value, comment);
}

Judgement judge(std::string_view line, std::string_view said) {
    const std::string plain = with_plain_quotes(line);
    if (plain != line) {
        const std::string_view shown = trimmed(plain);
        return {std::string(trimmed(shown.substr(0, shown.find('=')))),
                "typographic quotes are letters to TOML", fmt::format("write {}", shown), plain};
    }
    const std::string_view content = trimmed(line);
    Judgement judged = content.starts_with('[')                      ? judge_table(content, said)
                       : content.empty() || content.starts_with('#') ? Judgement{{}, {}, {}, {}}
                                                                     : judge_pair(content, said);
    if (judged.reason.empty()) {
        judged.reason = said;
    }
    return judged;
}

Mistake mistake_at(std::string_view text, const std::string& path, std::size_t number,
                   const Line& line, Judgement& judged) {
    const bool is_table = trimmed(line.text).starts_with('[');
    if (!is_table && !judged.key.empty()) {
        judged.key = table_above(text, line.at) + judged.key;
    }
    const std::string place = judged.key.empty()
                                  ? fmt::format("{}:{}", path, number)
                                  : fmt::format("{}:{}: {}", path, number, judged.key);
    return {number,
            judged.key,
            {ErrorKind::invalid, fmt::format("{}: {}", place, judged.reason), judged.accepted}};
}

}  // namespace

std::optional<toml::table> parse_toml(std::string text, const std::string& path,
                                      Mistakes& mistakes) {
    for (int repairs = 0;; ++repairs) {
        try {
            return toml::parse(text, path);
        } catch (const toml::parse_error& error) {
            const std::size_t number = std::max<std::size_t>(error.source().begin.line, 1);
            const Line line = line_of(text, number);
            Judgement judged = judge(line.text, error.description());
            mistakes.push_back(mistake_at(text, path, number, line, judged));
            if (judged.repaired.empty() || repairs == most_repairs) {
                return std::nullopt;
            }
            const std::size_t length = line.text.size();
            text.replace(line.at, length, judged.repaired);
        }
    }
}

}  // namespace mirror
