// SPDX-License-Identifier: BSD-3-Clause
#include "core/base/clock.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace mirror {
namespace {

using std::chrono::days;
using std::chrono::floor;
using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using std::chrono::sys_days;

class SystemClock final : public Clock {
  public:
    [[nodiscard]] WallTime wall_now() const override {
        return floor<microseconds>(std::chrono::system_clock::now());
    }
    [[nodiscard]] SteadyTime steady_now() const override {
        return std::chrono::steady_clock::now();
    }
};

/// Takes fields off the front of a text; after the first mismatch everything fails.
class FieldReader {
  public:
    explicit FieldReader(std::string_view text) : rest_(text) {}

    unsigned number(std::size_t digits) {
        unsigned value = 0;
        const char* first = rest_.data();
        if (rest_.size() < digits || rest_.find_first_not_of("0123456789") < digits) {
            ok_ = false;
            return 0;
        }
        std::from_chars(first, first + digits, value);
        rest_.remove_prefix(digits);
        return value;
    }
    bool accept(std::string_view any_of) {
        const bool found = !rest_.empty() && any_of.find(rest_[0]) != std::string_view::npos;
        rest_.remove_prefix(found ? 1 : 0);
        return found;
    }
    void expect(std::string_view any_of) { ok_ = accept(any_of) && ok_; }

    /// What stands behind a decimal point; digits below a microsecond are dropped.
    microseconds fraction() {
        std::int64_t value = 0;
        std::int64_t scale = 1'000'000;
        std::size_t digits = 0;
        for (; !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; ++digits) {
            scale /= 10;
            value += (rest_[0] - '0') * scale;
            rest_.remove_prefix(1);
        }
        ok_ = ok_ && digits > 0;
        return microseconds(value);
    }
    [[nodiscard]] char front() const { return rest_.empty() ? '\0' : rest_[0]; }
    [[nodiscard]] bool done() const { return ok_ && rest_.empty(); }

  private:
    std::string_view rest_;
    bool ok_ = true;
};

minutes read_zone(FieldReader& reader) {
    const char sign = reader.front();
    reader.expect("Zz+-");
    if (sign != '+' && sign != '-') {
        return minutes(0);
    }
    const hours zone_hours(reader.number(2));
    reader.expect(":");
    const minutes offset = zone_hours + minutes(reader.number(2));
    return sign == '+' ? offset : -offset;
}

}  // namespace

microseconds ClockOffset::at_least() const {
    return std::max(microseconds(0), std::chrono::abs(likely) - uncertainty);
}

ClockOffset clock_offset(WallTime theirs, WallTime answered, SteadyTime::duration took) {
    const auto half = floor<microseconds>(took / 2);
    return {theirs - (answered - half), half};
}

double rounded_seconds(std::chrono::nanoseconds time) {
    return std::round(std::chrono::duration<double, std::milli>(time).count()) / 1000;
}

const Clock& system_clock() {
    static const SystemClock clock;
    return clock;
}

WallTime wall_time_of(SteadyTime moment, const Clock& clock) {
    return clock.wall_now() -
           std::chrono::duration_cast<std::chrono::microseconds>(clock.steady_now() - moment);
}

std::string format_rfc3339(WallTime time) {
    const auto day = floor<days>(time);
    const std::chrono::year_month_day date(day);
    const std::chrono::hh_mm_ss clock(floor<milliseconds>(time - day));
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                       static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                       clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                       clock.subseconds().count());
}

Result<WallTime> parse_rfc3339(std::string_view text) {
    FieldReader reader(text);
    const std::chrono::year year(static_cast<int>(reader.number(4)));
    reader.expect("-");
    const std::chrono::month month(reader.number(2));
    reader.expect("-");
    const std::chrono::day day(reader.number(2));
    reader.expect("Tt ");
    const unsigned hour = reader.number(2);
    reader.expect(":");
    const unsigned minute = reader.number(2);
    reader.expect(":");
    const unsigned second = reader.number(2);
    const microseconds fraction = reader.accept(".") ? reader.fraction() : microseconds(0);
    const minutes zone = read_zone(reader);

    const std::chrono::year_month_day date(year, month, day);
    // Second 60 is a leap second.
    if (!reader.done() || !date.ok() || hour > 23 || minute > 59 || second > 60) {
        return fail(ErrorKind::invalid, "'{}' is not a time such as 2026-03-01T12:30:05Z",
                    text.substr(0, 40));
    }
    return WallTime(sys_days(date) + hours(hour) + minutes(minute) + seconds(second) + fraction -
                    zone);
}

}  // namespace mirror
