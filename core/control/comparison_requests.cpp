// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/comparison_requests.hpp"

#include <algorithm>
#include <span>
#include <string_view>

#include "core/base/checksum.hpp"
#include "core/base/json.hpp"
#include "core/control/messages.hpp"

namespace mirror::control {
namespace {

constexpr std::size_t runs_per_answer = 10000;
constexpr std::size_t digest_text = 2 * sizeof(Digest);
constexpr std::uint64_t blocks_per_region = region_size / block_size;

void append_hex(std::string& text, const Digest& digest) {
    constexpr std::string_view digits = "0123456789abcdef";
    for (const std::byte byte : digest) {
        text += digits[std::to_integer<unsigned>(byte) >> 4U];
        text += digits[std::to_integer<unsigned>(byte) & 0xFU];
    }
}

std::uint64_t blocks_in(std::uint64_t region, std::uint64_t blocks) {
    return std::min(blocks_per_region, blocks - region * blocks_per_region);
}

Result<std::string> digests_of(std::uint64_t region, const Digester& digest, Store& store) {
    const ByteRange range = bytes_of({region, region + 1}, region_size, store.size());
    std::vector<std::byte> data(range.length);
    const bool hole = is_hole(store, range);
    if (auto read = hole ? Result<void>{} : store.read(data, range.offset); !read) {
        return Failure(read.error());
    }
    std::string text;
    for (std::uint64_t at = 0; at < data.size(); at += block_size) {
        const std::uint64_t length = std::min<std::uint64_t>(block_size, data.size() - at);
        append_hex(text, digest(std::span<const std::byte>(data).subspan(at, length)));
    }
    return text;
}

Result<std::vector<std::uint64_t>> region_numbers(const Json& request, std::uint64_t size) {
    const auto array = array_field(request, "regions");
    if (!array) {
        return Failure(array.error());
    }
    if ((*array)->size() > regions_per_request) {
        return fail(ErrorKind::invalid, "'regions' has more than {} entries", regions_per_request);
    }
    std::vector<std::uint64_t> regions;
    for (const Json& number : **array) {
        if (!number.is_number_unsigned() ||
            number.get<std::uint64_t>() >= divide_up(size, region_size)) {
            return fail(ErrorKind::invalid, "'regions' has an entry that is not a region");
        }
        regions.push_back(number.get<std::uint64_t>());
    }
    return regions;
}

/// The text of the region at `index`; nothing when the answer is not what was asked for.
const std::string* text_of(const Json& answer, std::size_t index, std::uint64_t blocks) {
    const auto array = array_field(answer, "digests");
    if (!array || index >= (*array)->size() || !(**array)[index].is_string()) {
        return nullptr;
    }
    const auto& text = (**array)[index].get_ref<const std::string&>();
    return text.size() == blocks * digest_text ? &text : nullptr;
}

}  // namespace

Result<Json> answer_differing_regions(const Json& request, const Bitmap& regions) {
    const auto wanted = optional_uint_field(request, "from");
    if (!wanted) {
        return Failure(wanted.error());
    }
    Json runs = Json::array();
    std::uint64_t from = wanted->value_or(0);
    while (const auto run =
               from < regions.size() ? regions.next_run(from, regions.size()) : std::nullopt) {
        if (runs.size() == runs_per_answer) {
            return Json{{"runs", std::move(runs)}, {"next", run->first}};
        }
        runs.push_back(Json::array({run->first, run->last}));
        from = run->last;
    }
    return Json{{"runs", std::move(runs)}, {"next", nullptr}};
}

Result<std::optional<std::uint64_t>> add_regions(const Json& answer, Bitmap& regions) {
    const auto runs = array_field(answer, "runs");
    if (!runs) {
        return Failure(runs.error());
    }
    for (const Json& run : **runs) {
        if (!run.is_array() || run.size() != 2 || !run[0].is_number_unsigned() ||
            !run[1].is_number_unsigned() || run[1].get<std::uint64_t>() > regions.size() ||
            run[0].get<std::uint64_t>() >= run[1].get<std::uint64_t>()) {
            return fail(ErrorKind::protocol, "'runs' has an entry that is not a run of regions");
        }
        regions.set({run[0].get<std::uint64_t>(), run[1].get<std::uint64_t>()});
    }
    auto next = optional_uint_field(answer, "next");
    if (next && *next && **next >= regions.size()) {
        return fail(ErrorKind::protocol, "'next' is not a region");
    }
    return next;
}

void add_listed_regions(std::span<const std::byte> part, std::uint64_t first, Bitmap& regions) {
    for (std::uint64_t i = 0; i < part.size() * 8; ++i) {
        if ((part[i / 8] >> (i % 8) & std::byte{1}) != std::byte{0}) {
            regions.set({first + i, first + i + 1});
        }
    }
}

Json ask_block_digests(const SessionId& key, const std::vector<std::uint64_t>& regions) {
    return {{"request", "block-digests"}, {"key", to_string(key)}, {"regions", regions}};
}

Result<Json> answer_block_digests(const Json& request, Store& store) {
    const auto key = id_field<SessionId>(request, "key");
    const auto regions = region_numbers(request, store.size());
    if (!key || !regions) {
        return Failure(key ? regions.error() : key.error());
    }
    const Digester digest(*key);
    Json texts = Json::array();
    for (const std::uint64_t region : *regions) {
        auto text = digests_of(region, digest, store);
        if (!text) {
            return Failure(text.error());
        }
        texts.push_back(std::move(*text));
    }
    return Json{{"digests", std::move(texts)}};
}

Result<void> add_differing_blocks(const Json& ours, const Json& theirs,
                                  const std::vector<std::uint64_t>& regions, Bitmap& blocks) {
    for (std::size_t index = 0; index < regions.size(); ++index) {
        const std::uint64_t first = regions[index] * blocks_per_region;
        const std::uint64_t count = blocks_in(regions[index], blocks.size());
        const std::string* here = text_of(ours, index, count);
        const std::string* there = text_of(theirs, index, count);
        if (here == nullptr || there == nullptr) {
            return fail(ErrorKind::protocol, "the digests of region {} are missing",
                        regions[index]);
        }
        for (std::uint64_t block = 0; block < count; ++block) {
            const std::size_t at = block * digest_text;
            if (here->compare(at, digest_text, *there, at, digest_text) != 0) {
                blocks.set({first + block, first + block + 1});
            }
        }
    }
    return {};
}

}  // namespace mirror::control
