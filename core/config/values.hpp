// SPDX-License-Identifier: BSD-3-Clause
// The values that keys of the configuration may have: each function reads one kind, or says what is
// wrong with it and what would be accepted. Used by the reader of the file only.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/config/config.hpp"
#include "core/config/item.hpp"
#include "core/config/words.hpp"

namespace mirror {

/// An absolute path in one spelling.
[[nodiscard]] Result<std::string> path_of(const Item& item, std::string_view example);
/// What the volume is attached to: one of the kernel's nbd driver, and no disk.
[[nodiscard]] Result<std::string> device_of(const Item& item);
/// Where peers reach a node: never a wildcard address.
[[nodiscard]] Result<Endpoint> address_of(const Item& item);
/// Bytes: a multiple of 512.
[[nodiscard]] Result<std::uint64_t> size_of(const Item& item);
/// Bytes a second; 0 for no limit.
[[nodiscard]] Result<std::uint64_t> rate_of(const Item& item);
/// 100 ms to 10 min.
[[nodiscard]] Result<std::chrono::milliseconds> timeout_of(const Item& item);
/// As timeout_of; "0s" means never.
[[nodiscard]] Result<std::chrono::milliseconds> disk_timeout_of(const Item& item);
[[nodiscard]] Result<std::string> mount_of(const Item& item);
[[nodiscard]] Result<std::string> mount_options_of(const Item& item);
/// The name of a group of users; whether the machine has it is seen when it is needed.
[[nodiscard]] Result<std::string> group_of(const Item& item);
[[nodiscard]] Result<Mode> mode_of(const Item& item);

[[nodiscard]] Result<bool> bool_of(const Item& item);

/// One of the words.
template <typename Choice, std::size_t count>
[[nodiscard]] Result<Choice> choice_of(const Item& item, const ChoiceWords<Choice, count>& words) {
    const Result<std::string> text = string_of(item, words[0].first);
    if (!text) {
        return Failure(text.error());
    }
    for (const auto& [word, choice] : words) {
        if (word == *text) {
            return choice;
        }
    }
    std::string known;
    for (const auto& [word, choice] : words) {
        known += fmt::format("{}\"{}\"", known.empty() ? "" : " or ", word);
    }
    return item.wrong(fmt::format("'{}' is not known", *text), "take " + known);
}

}  // namespace mirror
