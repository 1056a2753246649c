// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/mistakes.hpp"

#include "core/base/trusted_file.hpp"

namespace mirror {

Error as_one_error(const Mistakes& mistakes) {
    Error error = mistakes.front().error;
    if (const std::size_t others = mistakes.size() - 1; others != 0) {
        error.remedy += fmt::format("{}{} more mistake{} in the file: mirrorctl check lists {}",
                                    error.remedy.empty() ? "" : "; ", others,
                                    others == 1 ? "" : "s", others == 1 ? "both" : "all");
    }
    return error;
}

tl::expected<Config, Mistakes> read_config_file(const std::string& path) {
    const Result<std::string> text = read_trusted_file(path, longest_config_file);
    if (!text) {
        Error error = text.error();
        if (error.remedy.empty()) {
            error.remedy = "make it, or name another one with --config FILE";
        }
        return tl::unexpected(Mistakes{{0, {}, std::move(error)}});
    }
    return read_config(*text, path);
}

Result<Config> parse_config(const std::string& text, const std::string& path) {
    return read_config(text, path).map_error(as_one_error);
}

Result<Config> load_config(const std::string& path) {
    return read_config_file(path).map_error(as_one_error);
}

}  // namespace mirror
