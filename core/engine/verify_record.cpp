// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/verify_record.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <span>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "core/base/checksum.hpp"
#include "core/base/fd.hpp"
#include "core/base/json.hpp"
#include "core/base/trusted_file.hpp"
#include "core/control/json_text.hpp"
#include "core/control/messages.hpp"

namespace mirror {
namespace {

using control::Json;

/// A record with all its ranges takes a tenth of it.
constexpr std::size_t longest_file = 64 * KiB;
constexpr std::size_t checksum_digits = 8;

constexpr std::array<std::pair<VerifyState, std::string_view>, 4> words{{
    {VerifyState::never, "never"},
    {VerifyState::running, "running"},
    {VerifyState::stopped, "stopped"},
    {VerifyState::finished, "finished"},
}};

Result<VerifyState> parse_state(const std::string& word) {
    for (const auto& [state, known] : words) {
        if (known == word) {
            return state;
        }
    }
    return fail(ErrorKind::invalid, "state: '{}' is not known", word.substr(0, 40));
}

Json encode_ranges(const std::vector<VerifyFinding>& ranges) {
    Json array = Json::array();
    for (const VerifyFinding& each : ranges) {
        array.push_back({{"offset", each.range.offset},
                         {"length", each.range.length},
                         {"unreadable", each.unreadable},
                         {"repaired", each.repaired}});
    }
    return array;
}

Result<std::vector<VerifyFinding>> decode_ranges(const Json& array, std::uint64_t size) {
    std::vector<VerifyFinding> ranges;
    if (array.size() > VerifyRecord::most_ranges) {
        return fail(ErrorKind::invalid, "ranges: {} are too many", array.size());
    }
    for (const Json& each : array) {
        const auto offset = control::uint_field(each, "offset");
        const auto length = control::uint_field(each, "length");
        const auto unreadable = control::bool_field(each, "unreadable");
        const auto repaired = control::bool_field(each, "repaired");
        if (!offset || !length || !unreadable || !repaired ||
            !ByteRange{*offset, *length}.fits_in(size)) {
            return fail(ErrorKind::invalid, "ranges: an entry makes no sense");
        }
        ranges.push_back({{*offset, *length}, *unreadable, *repaired, {}});
    }
    return ranges;
}

/// The figures, one after the other; the first that is missing or wrong is the error.
Result<void> decode_figures(const Json& json, VerifyRecord& record) {
    for (const auto& [name, target] : {std::pair("size_bytes", &record.size),
                                       {"position_bytes", &record.position},
                                       {"mismatched_bytes", &record.mismatched_bytes},
                                       {"repaired_bytes", &record.repaired_bytes},
                                       {"unlisted_ranges", &record.unlisted_ranges},
                                       {"last_mismatched_bytes", &record.last_mismatched_bytes},
                                       {"last_repaired_bytes", &record.last_repaired_bytes}}) {
        const auto value = control::uint_field(json, name);
        if (!value) {
            return Failure(value.error());
        }
        *target = *value;
    }
    for (const auto& [name, target] :
         {std::pair("started_at", &record.started_at), {"last_finished", &record.last_finished}}) {
        const auto value = control::time_field(json, name);
        if (!value) {
            return Failure(value.error());
        }
        *target = *value;
    }
    if (record.position > record.size || record.mismatched_bytes > record.size ||
        record.repaired_bytes > record.mismatched_bytes ||
        record.last_repaired_bytes > record.last_mismatched_bytes) {
        return fail(ErrorKind::invalid, "the figures contradict each other");
    }
    return {};
}

std::string checksum_of(const std::string& text) {
    return fmt::format("{:08x}", crc32c(std::as_bytes(std::span(text))));
}

Result<void> write_whole(const Fd& fd, std::string_view text, const std::string& path) {
    while (!text.empty()) {
        const ::ssize_t written = ::write(fd.get(), text.data(), text.size());
        if (written < 0 && errno != EINTR) {
            return fail_errno(errno, path);
        }
        text.remove_prefix(static_cast<std::size_t>(std::max<::ssize_t>(written, 0)));
    }
    if (::fdatasync(fd.get()) != 0) {
        return fail_errno(errno, path);
    }
    return {};
}

}  // namespace

std::string_view to_string(VerifyState state) noexcept {
    for (const auto& [known, word] : words) {
        if (known == state) {
            return word;
        }
    }
    return "never";
}

void VerifyRecord::add(const VerifyFinding& finding) {
    mismatched_bytes += finding.range.length;
    repaired_bytes += finding.repaired ? finding.range.length : 0;
    if (ranges.size() < most_ranges) {
        ranges.push_back(finding);
        ranges.back().cause.clear();
    } else {
        ++unlisted_ranges;
    }
}

Json encode(const VerifyRecord& record) {
    return {{"volume", to_string(record.volume)},
            {"size_bytes", record.size},
            {"state", to_string(record.state)},
            {"source", record.source},
            {"repair", record.repair},
            {"rate", record.rate ? Json(*record.rate) : Json()},
            {"started_at", control::encode(record.started_at)},
            {"position_bytes", record.position},
            {"mismatched_bytes", record.mismatched_bytes},
            {"repaired_bytes", record.repaired_bytes},
            {"ranges", encode_ranges(record.ranges)},
            {"unlisted_ranges", record.unlisted_ranges},
            {"last_finished", control::encode(record.last_finished)},
            {"last_mismatched_bytes", record.last_mismatched_bytes},
            {"last_repaired_bytes", record.last_repaired_bytes}};
}

Result<VerifyRecord> decode_verify_record(const Json& json) {
    VerifyRecord record;
    const auto volume = control::id_field<VolumeId>(json, "volume");
    const auto state = control::string_field(json, "state").and_then(parse_state);
    const auto source = control::string_field(json, "source");
    const auto repair = control::bool_field(json, "repair");
    const auto rate = control::optional_uint_field(json, "rate");
    const auto ranges = control::array_field(json, "ranges");
    if (!volume || !state) {
        return Failure(volume ? state.error() : volume.error());
    }
    if (!source || !repair) {
        return Failure(source ? repair.error() : source.error());
    }
    if (!rate || !ranges) {
        return Failure(rate ? ranges.error() : rate.error());
    }
    if (auto figures = decode_figures(json, record); !figures) {
        return Failure(figures.error());
    }
    auto decoded = decode_ranges(**ranges, record.size);
    if (!decoded) {
        return Failure(decoded.error());
    }
    record.volume = *volume;
    record.state = *state;
    record.source = *source;
    record.repair = *repair;
    record.rate = *rate;
    record.ranges = std::move(*decoded);
    return record;
}

std::string verify_record_path(const std::string& state_dir, const std::string& volume) {
    return state_dir + "/" + volume + "/verify.json";
}

Result<void> save_verify_record(const std::string& path, const VerifyRecord& record) {
    const std::string directory = path.substr(0, path.rfind('/'));
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
        return fail_errno(errno, directory);
    }
    const std::string fresh = path + ".new";
    const auto file = make_own_file(fresh);
    if (!file) {
        return Failure(file.error());
    }
    const std::string text = encode(record).dump();
    if (auto written = write_whole(*file, checksum_of(text) + " " + text + "\n", fresh); !written) {
        ::unlink(fresh.c_str());  // most likely for space: it must not keep some
        return written;
    }
    if (::rename(fresh.c_str(), path.c_str()) != 0) {
        return fail_errno(errno, path);
    }
    return sync_folder(directory);
}

Result<std::optional<VerifyRecord>> load_verify_record(const std::string& path) {
    const auto text = read_own_file(path, longest_file);
    if (!text && text.error().kind == ErrorKind::not_found) {
        return std::nullopt;
    }
    if (!text) {
        return Failure(text.error());
    }
    const bool whole = text->size() > checksum_digits + 2 && text->back() == '\n';
    const std::string content =
        whole ? text->substr(checksum_digits + 1, text->size() - checksum_digits - 2) : "";
    if (!whole || text->compare(0, checksum_digits, checksum_of(content)) != 0) {
        return fail(ErrorKind::corrupt, "{}: the content does not fit its checksum", path);
    }
    auto record = decode_verify_record(control::parse_shallow(content));
    if (!record) {
        return fail(ErrorKind::corrupt, "{}: {}", path, record.error().message);
    }
    return std::optional(std::move(*record));
}

Json verify_status(const VerifyRecord& record, WallTime now,
                   const std::optional<VerifyPace>& pace) {
    const std::uint64_t rate = pace ? pace->bytes_per_second : 0;
    const bool running = record.state == VerifyState::running;
    const bool finished_once = record.last_finished != WallTime{};
    const auto age = std::chrono::duration_cast<std::chrono::seconds>(now - record.last_finished);
    return {
        {"state", to_string(record.state)},
        {"repair", record.repair},
        {"started_at", control::encode(record.started_at)},
        {"done_bytes", record.position},
        {"total_bytes", record.size},
        {"bytes_per_second", rate},
        {"eta_seconds",
         running && rate > 0 ? Json(divide_up(record.size - record.position, rate)) : Json()},
        {"waits_for", pace && running && !pace->waits_for.empty() ? Json(pace->waits_for) : Json()},
        {"mismatched_bytes", record.mismatched_bytes},
        {"repaired_bytes", record.repaired_bytes},
        {"ranges", encode_ranges(record.ranges)},
        {"unlisted_ranges", record.unlisted_ranges},
        {"last_finished", control::encode(record.last_finished)},
        {"age_seconds", finished_once ? Json(std::max<std::int64_t>(age.count(), 0)) : Json()},
        {"last_mismatched_bytes", record.last_mismatched_bytes},
        {"last_repaired_bytes", record.last_repaired_bytes},
        {"unrepaired_bytes", record.unrepaired_bytes()}};
}

}  // namespace mirror
