// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/endpoint.hpp"

#include <charconv>

namespace mirror::daemon {

Result<Endpoint> parse_endpoint(const std::string& text) {
    const Failure wrong(Error{ErrorKind::invalid, fmt::format("'{}' is not an address", text),
                              "write HOST:PORT or [V6-ADDRESS]:PORT"});
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon == 0) {
        return wrong;
    }
    Endpoint endpoint{text.substr(0, colon), 0};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, endpoint.port);
    if (error != std::errc{} || stop != end || endpoint.port == 0) {
        return wrong;
    }
    if (endpoint.host.starts_with('[') && endpoint.host.ends_with(']')) {
        endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
    } else if (endpoint.host.find(':') != std::string::npos) {
        return wrong;  // whether the last part is a port can't be told without brackets
    }
    return endpoint;
}

}  // namespace mirror::daemon
