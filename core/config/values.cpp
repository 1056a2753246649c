// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/values.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <filesystem>

#include "core/base/units.hpp"

namespace mirror {
namespace {

constexpr std::uint64_t sector = 512;
constexpr std::uint64_t largest_size = std::uint64_t{1} << 60;
constexpr std::uint64_t slowest_rate = 4 * KiB;
constexpr std::chrono::milliseconds shortest_timeout{100};
constexpr std::chrono::milliseconds longest_timeout{std::chrono::minutes(10)};

bool is_host_name(std::string_view host) {
    constexpr std::string_view letters =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    return !host.empty() && host.find_first_not_of(letters) == std::string_view::npos;
}

bool is_v6(const std::string& host) {
    in6_addr parsed{};
    return ::inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &parsed) == 1;
}

}  // namespace

Result<std::string> path_of(const Item& item, std::string_view example) {
    Result<std::string> text = string_of(item, example);
    if (!text) {
        return text;
    }
    if (!text->starts_with('/') || text->find('\0') != std::string::npos) {
        return item.wrong(fmt::format("'{}' is not an absolute path", *text),
                          fmt::format("such as \"{}\"", example));
    }
    // One spelling, so that two names of one place are seen as the same.
    const auto normal = std::filesystem::path(*text).lexically_normal();
    return normal.has_filename() ? normal.string() : normal.parent_path().string();
}

Result<Endpoint> address_of(const Item& item) {
    constexpr std::string_view example = "10.0.0.1:10809";
    const Result<std::string> text = string_of(item, example);
    if (!text) {
        return Failure(text.error());
    }
    const std::string remedy =
        "write \"HOST:PORT\" or \"[V6-ADDRESS]:PORT\", with a port from 1 to 65535";
    const Failure wrong = item.wrong(fmt::format("'{}' is not an address", *text), remedy);
    const std::size_t colon = text->rfind(':');
    if (colon == std::string::npos) {
        return wrong;
    }
    Endpoint endpoint{.host = text->substr(0, colon)};
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data() + colon + 1, end, endpoint.port);
    if (error != std::errc{} || stop != end || endpoint.port == 0) {
        return wrong;
    }
    if (endpoint.host.starts_with('[') && endpoint.host.ends_with(']')) {
        endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
        if (!is_v6(endpoint.host)) {
            return wrong;
        }
    } else if (!is_host_name(endpoint.host)) {
        return wrong;
    }
    if (endpoint.host == "0.0.0.0" || endpoint.host == "::") {
        return item.wrong(fmt::format("'{}' can't be used", *text),
                          "give the address that peers connect to, such as \"10.0.0.1:10809\"");
    }
    return endpoint;
}

Result<std::uint64_t> size_of(const Item& item) {
    Result<std::uint64_t> size = 0;
    if (const auto* number = item.value.as_integer()) {
        if (number->get() < 0) {
            return item.wrong("must not be negative");
        }
        size = static_cast<std::uint64_t>(number->get());
    } else if (const auto* text = item.value.as_string()) {
        size = parse_size(text->get());
        if (!size) {
            return item.wrong(size.error().message, size.error().remedy);
        }
    } else {
        return item.wrong("must be a string or a number of bytes", "such as \"10GiB\"");
    }
    if (*size == 0 || *size % sector != 0) {
        return item.wrong(fmt::format("{} bytes is not a size that a disk can have", *size),
                          fmt::format("use a multiple of {} bytes, above 0", sector));
    }
    if (*size > largest_size) {
        return item.wrong(fmt::format("{} bytes is too large", *size),
                          fmt::format("the largest is {} bytes", largest_size));
    }
    return size;
}

Result<std::uint64_t> rate_of(const Item& item) {
    Result<std::uint64_t> rate = 0;
    if (const auto* number = item.value.as_integer(); number != nullptr && number->get() >= 0) {
        rate = static_cast<std::uint64_t>(number->get());
    } else if (const auto* text = item.value.as_string()) {
        rate = parse_size(text->get());
    } else {
        return item.wrong("must be a string or a number of bytes a second", "such as \"64MiB\"");
    }
    if (!rate) {
        return item.wrong(rate.error().message, rate.error().remedy);
    }
    if (*rate != 0 && *rate < slowest_rate) {
        return item.wrong(fmt::format("{} bytes a second would take forever", *rate),
                          fmt::format("use {} bytes or more, or 0 for no limit", slowest_rate));
    }
    return rate;
}

Result<std::string> group_of(const Item& item) {
    Result<std::string> text = string_of(item, "libvirt-qemu");
    if (text && (text->empty() ||
                 text->find_first_of(std::string_view(" :/\n\0", 5)) != std::string::npos)) {
        return item.wrong(fmt::format("'{}' is not the name of a group", *text),
                          "such as \"libvirt-qemu\"");
    }
    return text;
}

Result<std::chrono::milliseconds> timeout_of(const Item& item) {
    const Result<std::string> text = string_of(item, "5s");
    if (!text) {
        return Failure(text.error());
    }
    Result<std::chrono::milliseconds> timeout = parse_duration(*text);
    if (!timeout) {
        return item.wrong(timeout.error().message, timeout.error().remedy);
    }
    if (*timeout < shortest_timeout || *timeout > longest_timeout) {
        return item.wrong(fmt::format("'{}' is out of range", *text),
                          "use a value from 100ms to 10min");
    }
    return timeout;
}

Result<std::chrono::milliseconds> disk_timeout_of(const Item& item) {
    const Result<std::string> text = string_of(item, "30s");
    if (text) {
        auto given = parse_duration(*text);
        if (given && given->count() == 0) {
            return given;
        }
    }
    return timeout_of(item);
}

Result<std::string> mount_of(const Item& item) {
    Result<std::string> path = path_of(item, "/srv/data");
    if (path && path->find_first_not_of('/') == std::string::npos) {
        return item.wrong("a volume can't be mounted on /", "such as \"/srv/data\"");
    }
    return path;
}

Result<std::string> mount_options_of(const Item& item) {
    Result<std::string> options = string_of(item, "noatime");
    if (options && (options->empty() || options->find('\0') != std::string::npos)) {
        return item.wrong("these are not options of mount(8)", "such as \"noatime\"");
    }
    return options;
}

Result<bool> bool_of(const Item& item) {
    const auto* choice = item.value.as_boolean();
    if (choice == nullptr) {
        return item.wrong("must be true or false", "without quotes");
    }
    return choice->get();
}

Result<std::string> device_of(const Item& item) {
    constexpr std::string_view stem = "/dev/nbd";
    Result<std::string> path = path_of(item, "/dev/nbd0");
    if (!path) {
        return path;
    }
    std::uint32_t index = 0;
    const char* const end = path->data() + path->size();
    const bool has_stem = path->starts_with(stem);
    const auto number = std::from_chars(path->data() + (has_stem ? stem.size() : 0), end, index);
    // One spelling, as the kernel has it: /dev/nbd01 is no device.
    if (!has_stem || number.ec != std::errc{} || *path != fmt::format("{}{}", stem, index)) {
        return item.wrong(
            fmt::format("'{}' is not a device of the kernel's nbd driver", *path),
            "take \"/dev/nbd0\", \"/dev/nbd1\", …; a disk that holds the volume's data goes into "
            "backing.NODE");
    }
    return path;
}

Result<Mode> mode_of(const Item& item) {
    Result<Mode> mode = choice_of(item, mode_words);
    if (mode && *mode == Mode::async) {
        return item.wrong("asynchronous mode is not available in this version",
                          "use mode = \"sync\"");
    }
    return mode;
}

}  // namespace mirror
