// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/option_data.hpp"

#include <algorithm>
#include <concepts>
#include <utility>

namespace mirror::nbd {
namespace {

/// Takes an option's data apart; nothing where it is too short.
class Reader {
  public:
    explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

    template <std::unsigned_integral T>
    std::optional<T> number() {
        if (rest_.size() < sizeof(T)) {
            return {};
        }
        const T value = load_be<T>(rest_.data());
        rest_ = rest_.subspan(sizeof(T));
        return value;
    }

    /// A 32-bit length and that many bytes.
    std::optional<std::string> text() {
        const auto length = number<std::uint32_t>();
        if (!length || *length > rest_.size()) {
            return {};
        }
        std::string value(reinterpret_cast<const char*>(rest_.data()), *length);
        rest_ = rest_.subspan(*length);
        return value;
    }

    [[nodiscard]] bool at_end() const { return rest_.empty(); }

  private:
    std::span<const std::byte> rest_;
};

}  // namespace

std::optional<GoRequest> parse_go(std::span<const std::byte> data) {
    Reader reader(data);
    const auto name = reader.text();
    const auto count = reader.number<std::uint16_t>();
    if (!name || !count) {
        return {};
    }
    GoRequest request{*name, {}};
    for (unsigned i = 0; i < *count; ++i) {
        const auto info = reader.number<std::uint16_t>();
        if (!info) {
            return {};
        }
        request.infos.push_back(static_cast<Info>(*info));
    }
    return reader.at_end() ? std::optional(request) : std::nullopt;
}

std::optional<ContextQuery> parse_context_query(std::span<const std::byte> data) {
    Reader reader(data);
    const auto name = reader.text();
    const auto count = reader.number<std::uint32_t>();
    if (!name || !count) {
        return {};
    }
    ContextQuery request{*name, {}};
    for (std::uint32_t i = 0; i < *count; ++i) {
        auto query = reader.text();
        if (!query) {
            return {};
        }
        request.queries.push_back(std::move(*query));
    }
    return reader.at_end() ? std::optional(request) : std::nullopt;
}

bool asks_for_allocation(const std::vector<std::string>& queries, bool is_list) {
    if (queries.empty()) {
        return is_list;
    }
    return std::any_of(queries.begin(), queries.end(), [&](const std::string& query) {
        return query == allocation_context || (is_list && query == "base:");
    });
}

}  // namespace mirror::nbd
