// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/look_up.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <netdb.h>
#include <sys/socket.h>
#include <system_error>

#include "core/config/config.hpp"

namespace mirror::nbd {

Result<std::vector<std::string>> look_up(const std::string& host) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
        return Failure(
            Error{ErrorKind::invalid,
                  fmt::format("cannot look up '{}': {}", host,
                              error == EAI_SYSTEM ? std::generic_category().message(errno)
                                                  : std::string(::gai_strerror(error))),
                  "correct the name, add it to /etc/hosts, or write a number"});
    }
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, ::freeaddrinfo);
    std::vector<std::string> numbers;
    for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
        std::array<char, NI_MAXHOST> text{};
        if (::getnameinfo(address->ai_addr, address->ai_addrlen, text.data(), text.size(), nullptr,
                          0, NI_NUMERICHOST) == 0 &&
            std::find(numbers.begin(), numbers.end(), text.data()) == numbers.end()) {
            numbers.emplace_back(text.data());
        }
    }
    if (numbers.empty()) {
        return fail(ErrorKind::invalid, "'{}' has no internet address", host);
    }
    return numbers;
}

bool is_loopback(const std::string& number) {
    return Endpoint{number, 0}.is_loopback();
}

}  // namespace mirror::nbd
