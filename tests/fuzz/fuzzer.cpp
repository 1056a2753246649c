// SPDX-License-Identifier: BSD-3-Clause
// libFuzzer's entry: fuzz --target=NAME [libFuzzer's options] [CORPUS…]. One program for all
// targets, since most of it is what they have in common.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "target.hpp"

namespace {

const mirror::fuzz::Target* chosen = nullptr;

[[noreturn]] void usage() {
    std::fprintf(stderr, "usage: fuzz --target=NAME [libFuzzer's options] [CORPUS…]; NAME is\n");
    for (const mirror::fuzz::Target& each : mirror::fuzz::targets()) {
        std::fprintf(stderr, "  %.*s\n", static_cast<int>(each.name.size()), each.name.data());
    }
    std::exit(2);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

/// libFuzzer leaves options that begin with two dashes alone.
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
    constexpr std::string_view option = "--target=";
    for (int i = 1; i < *count; ++i) {
        const std::string_view argument((*arguments)[i]);
        if (argument.starts_with(option)) {
            chosen = mirror::fuzz::find_target(argument.substr(option.size()));
        }
    }
    if (chosen == nullptr) {
        usage();
    }
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    chosen->run(std::as_bytes(std::span(data, size)));
    return 0;
}
