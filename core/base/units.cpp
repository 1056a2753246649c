// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/units.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

namespace mirror {
namespace {

struct Quantity {
    std::uint64_t number = 0;
    std::string_view unit;
};

std::string_view skip_spaces(std::string_view text) noexcept {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    return text;
}

/// A whole number and what follows it; nothing where there is no number or it is too large.
Result<Quantity> split_quantity(std::string_view text) {
    Quantity quantity;
    const char* last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, quantity.number);
    if (error == std::errc::result_out_of_range) {
        return fail(ErrorKind::invalid, "'{}' is too large", text.substr(0, 40));
    }
    if (error != std::errc{}) {
        return fail(ErrorKind::invalid, "'{}' does not start with a whole number",
                    text.substr(0, 40));
    }
    quantity.unit = skip_spaces(text.substr(static_cast<std::size_t>(end - text.data())));
    return quantity;
}

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 10> size_units{{
    {"", 1},
    {"B", 1},
    {"KiB", KiB},
    {"K", KiB},
    {"MiB", MiB},
    {"M", MiB},
    {"GiB", GiB},
    {"G", GiB},
    {"TiB", TiB},
    {"T", TiB},
}};

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 4> duration_units{{
    {"ms", 1},
    {"s", 1000},
    {"min", 60 * 1000},
    {"h", 60 * 60 * 1000},
}};

/// The number in the smallest unit, at most `limit`.
template <typename Units>
Result<std::uint64_t> scale(const Quantity& quantity, const Units& units, std::uint64_t limit,
                            std::string_view text, std::string_view remedy) {
    for (const auto& [unit, factor] : units) {
        if (unit != quantity.unit) {
            continue;
        }
        if (quantity.number > limit / factor) {
            return fail(ErrorKind::invalid, "'{}' is too large", text.substr(0, 40));
        }
        return quantity.number * factor;
    }
    return Failure(Error{ErrorKind::invalid,
                         quantity.unit.empty()
                             ? fmt::format("'{}' has no unit", text.substr(0, 40))
                             : fmt::format("'{}' is not a known unit", quantity.unit.substr(0, 40)),
                         std::string(remedy)});
}

bool is_decimal_unit(std::string_view unit) noexcept {
    return unit.size() == 2 && unit[1] == 'B' &&
           std::string_view("kKMGTP").find(unit[0]) != std::string_view::npos;
}

/// Three digits, or fewer where they say it exactly.
std::string three_digits(double value) {
    const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    for (int fewer = 0; fewer < decimals; ++fewer) {
        const double scaled = value * std::pow(10, fewer);
        if (scaled == std::floor(scaled)) {
            return fmt::format("{:.{}f}", value, fewer);
        }
    }
    return fmt::format("{:.{}f}", value, decimals);
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
    const Result<Quantity> quantity = split_quantity(text);
    if (!quantity) {
        return Failure(quantity.error());
    }
    if (is_decimal_unit(quantity->unit)) {
        const char prefix = quantity->unit[0] == 'k' ? 'K' : quantity->unit[0];
        return Failure(Error{ErrorKind::invalid,
                             fmt::format("'{}' is a decimal unit", quantity->unit),
                             fmt::format("write {}iB, which is a power of 1024", prefix)});
    }
    return scale(*quantity, size_units, std::numeric_limits<std::uint64_t>::max(), text,
                 "units are B, KiB, MiB, GiB and TiB");
}

std::string format_size(std::uint64_t bytes) {
    constexpr std::array<std::string_view, 5> names{"B", "KiB", "MiB", "GiB", "TiB"};
    std::size_t index = 0;
    std::uint64_t unit = 1;
    while (index + 1 < names.size() && bytes / unit >= 1024) {
        unit *= 1024;
        ++index;
    }
    if (bytes % unit == 0) {
        return fmt::format("{} {}", bytes / unit, names[index]);
    }
    double value = static_cast<double>(bytes) / static_cast<double>(unit);
    if (value >= 1023.5 && index + 1 < names.size()) {
        return fmt::format("1.00 {}", names[index + 1]);
    }
    return fmt::format("{} {}", three_digits(value), names[index]);
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
    const Result<Quantity> quantity = split_quantity(text);
    if (!quantity) {
        return Failure(quantity.error());
    }
    constexpr auto limit = static_cast<std::uint64_t>(std::chrono::milliseconds::max().count());
    const Result<std::uint64_t> count =
        scale(*quantity, duration_units, limit, text, "units are ms, s, min and h");
    if (!count) {
        return Failure(count.error());
    }
    return std::chrono::milliseconds(static_cast<std::int64_t>(*count));
}

std::string format_duration(std::chrono::milliseconds duration) {
    constexpr std::int64_t second = 1000;
    constexpr std::int64_t minute = 60 * second;
    constexpr std::int64_t hour = 60 * minute;
    const std::int64_t count = duration.count();
    if (count < 0) {
        // The most negative count has no positive counterpart.
        const auto positive = -std::max(count, -std::chrono::milliseconds::max().count());
        return "-" + format_duration(std::chrono::milliseconds(positive));
    }
    if (count < second) {
        return fmt::format("{} ms", count);
    }
    if (count < minute) {
        return fmt::format("{}.{} s", count / second, count % second / 100);
    }
    if (count < hour) {
        return fmt::format("{} min {} s", count / minute, count % minute / second);
    }
    return fmt::format("{} h {} min", count / hour, count % hour / minute);
}

}  // namespace mirror
