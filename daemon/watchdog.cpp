// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/watchdog.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/control/mailbox.hpp"

namespace mirror::daemon {
namespace {

std::optional<std::uint64_t> number_in(const char* variable) {
    const char* text = std::getenv(variable);
    if (text == nullptr) {
        return std::nullopt;
    }
    std::uint64_t number = 0;
    const char* const end = text + std::strlen(text);
    const auto read = std::from_chars(text, end, number);
    return read.ec == std::errc{} && read.ptr == end ? std::optional(number) : std::nullopt;
}

}  // namespace

std::optional<std::chrono::microseconds> watchdog_limit() {
    const auto limit = number_in("WATCHDOG_USEC");
    const bool is_for_us = std::getenv("WATCHDOG_PID") == nullptr ||
                           number_in("WATCHDOG_PID") == static_cast<std::uint64_t>(::getpid());
    constexpr std::uint64_t most = std::uint64_t{1} << 50;  // 35 years
    return limit && *limit > 0 && *limit < most && is_for_us
               ? std::optional(std::chrono::microseconds(*limit))
               : std::nullopt;
}

Result<void> Watchdog::start(std::optional<std::chrono::microseconds> limit) {
    if (!limit) {
        return {};
    }
    const auto period = std::chrono::duration_cast<std::chrono::milliseconds>(*limit / 4);
    return periodic_.start("watchdog", std::max(period, std::chrono::milliseconds(1)),
                           [this] { look(); });
}

void Watchdog::look() {
    if (const auto works = test_()) {
        tell_("WATCHDOG=1");
    } else {
        log(LogLevel::warning, "mirrord gives no sign of life to the service manager: {}",
            works.error().text());
    }
}

Result<void> answers_itself(const Context& context, const Keepers& keepers,
                            std::chrono::milliseconds patience) {
    for (const auto& [name, keeper] : keepers) {
        (void)keeper->place();  // has its lock for a moment
    }
    const nbd::Address address{.tcp = {}, .unix_path = context.node.daemon_socket()};
    return control::MailboxClient::connect(address, "mirrord itself", patience, patience)
        .and_then([](control::MailboxClient client) {
            return client.ask({{"request", "version"}}).map([](const Json&) {});
        });
}

}  // namespace mirror::daemon
