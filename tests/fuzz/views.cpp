// SPDX-License-Identifier: BSD-3-Clause
// What a peer says and a person reads: a standby's change map, and a status in mirrorctl.
#include <algorithm>

#include "core/base/json.hpp"
#include "core/control/comparison_requests.hpp"
#include "core/control/json_text.hpp"
#include "input.hpp"
#include "tools/status_view.hpp"
#include "tools/verify_view.hpp"

namespace mirror::fuzz {

void change_map(Bytes bytes) {
    Input input(bytes);
    Bitmap regions(input.number<std::uint16_t>());
    std::uint64_t first = 0;
    while (!input.at_end()) {
        const Bytes part = input.bytes(1 + input.number<std::uint8_t>());
        control::add_listed_regions(part, first, regions);
        first += part.size() * 8;
    }
    std::uint64_t seen = 0;
    std::uint64_t from = 0;
    while (const auto run = regions.next_run(from, regions.size())) {
        require(run->last <= regions.size() && !run->empty(), "runs lie within the map");
        seen += run->last - run->first;
        from = run->last;
    }
    require(seen == regions.count(), "a map counts its bits");
}

/// What a peer puts into a status reaches a terminal, which it must not steer.
void status_view(Bytes bytes) {
    Input input(bytes);
    const tools::ViewContext context{
        .terminal = {.is_tty = false, .colour = false, .width = input.number<std::uint8_t>()},
        .now = WallTime(std::chrono::seconds(1000))};
    const auto json = control::parse_shallow(as_text(input.rest()));
    if (!json.is_object()) {
        return;
    }
    const std::string text = tools::format_status(json, context) +
                             tools::format_volume(json, "alpha", context) + tools::next_step(json) +
                             tools::verify_verdict(tools::verify_of(json), "r0");
    require(std::none_of(text.begin(), text.end(),
                         [](char c) { return (c >= 0 && c < ' ' && c != '\n') || c == 0x7F; }),
            "no control character reaches the terminal");
    const int code = tools::status_exit_code(json);
    require(code >= tools::status_in_sync && code <= tools::status_unknown, "an exit code");
}

}  // namespace mirror::fuzz
