// SPDX-License-Identifier: BSD-3-Clause
// Files that are read back whole: configuration, keys, undo files, the record of a comparison, the
// event log, the figures of a promotion. They are given as files in memory.
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "core/base/checksum.hpp"
#include "core/base/fd.hpp"
#include "core/base/json.hpp"
#include "core/config/config.hpp"
#include "core/control/json_text.hpp"
#include "core/engine/verify_record.hpp"
#include "core/meta/bytes.hpp"
#include "core/tls/psk_file.hpp"
#include "core/undo/undo_file.hpp"
#include "core/undo/undo_format.hpp"
#include "daemon/rto.hpp"
#include "input.hpp"
#include "temp_folder.hpp"
#include "tools/events_file.hpp"
#include "tools/events_view.hpp"

namespace mirror::fuzz {
namespace {

/// A file that has a path as long as the object lives.
class MemoryFile {
  public:
    explicit MemoryFile(Bytes content) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
        require(fd_.is_open() && ::write(fd_.get(), content.data(), content.size()) ==
                                     static_cast<ssize_t>(content.size()),
                "there is memory for a file");
    }
    [[nodiscard]] std::string path() const { return fmt::format("/proc/self/fd/{}", fd_.get()); }

  private:
    Fd fd_;
};

Bytes bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

constexpr std::size_t undo_data = 3000;

/// Three pieces: data, zeroes, data.
std::vector<std::byte> good_undo_file() {
    const std::vector<std::byte> data(undo_data, std::byte{0x5A});
    const std::uint32_t sum = crc32c(data);
    const std::uint64_t first = undo::header_size;
    const std::vector<UndoPiece> pieces{{{0, undo_data}, first, sum},
                                        {{8192, 4096}, 0, 0},
                                        {{1 * MiB, undo_data}, first + undo_data, sum}};
    const std::vector<std::byte> map = undo::encode_map(pieces);
    undo::Header header;
    header.info = {.volume = {},
                   .volume_name = "r0",
                   .volume_size = 2 * MiB,
                   .node = "alpha",
                   .kept = "beta",
                   .made_at = WallTime(std::chrono::seconds(5)),
                   .generation = {},
                   .kept_generation = {},
                   .ancestor = {}};
    header.map_at = first + 2 * undo_data;
    header.pieces = pieces.size();
    header.saved_bytes = 2 * undo_data + 4096;
    header.map_crc = crc32c(map);
    std::vector<std::byte> file(undo::header_size);
    require(undo::encode(header, std::span(file).first<undo::header_size>()).has_value(),
            "a good undo file can be written");
    file.insert(file.end(), data.begin(), data.end());
    file.insert(file.end(), data.begin(), data.end());
    file.insert(file.end(), map.begin(), map.end());
    return file;
}

/// Of the map first, since the header has its sum.
void mend_undo_file(std::span<std::byte> file) {
    if (file.size() < undo::header_size) {
        return;
    }
    const auto map_at = detail::get<std::uint64_t>(file, 96);
    if (map_at <= file.size()) {
        detail::put(file, 120, crc32c(file.subspan(map_at)));
    }
    detail::put(file, 12, crc32c(file.subspan(16, undo::header_size - 16)));
}

}  // namespace

void config(Bytes bytes) {
    const auto parsed = parse_config(std::string(as_text(bytes)), "mirrordisk.toml");
    if (!parsed) {
        require(!parsed.error().message.empty(), "a refusal has a reason");
        return;
    }
    for (const auto& [name, volume] : parsed->volumes) {
        require(is_valid_name(name) && volume.backing.size() == 2, "a volume has two replicas");
        (void)volume.shared_settings();
        for (const auto& [node, path] : volume.backing) {
            require(parsed->nodes.contains(node) && !volume.peer_of(node).empty(),
                    "replicas are on nodes that exist");
        }
    }
}

void undo_file(Bytes bytes) {
    Input input(bytes);
    const bool mended = input.flag();
    const std::uint64_t cut = input.number<std::uint8_t>();
    static const std::vector<std::byte> good = good_undo_file();
    std::vector<std::byte> content = good;
    patch(content, input);
    cut_off(content, cut * 24);
    if (mended) {
        mend_undo_file(content);
    }
    const MemoryFile file(content);
    const auto undo = UndoFile::open(file.path());
    if (!undo) {
        return;
    }
    (void)undo->runs();
    std::uint64_t end = 0;
    std::vector<std::byte> data;
    for (const UndoPiece& piece : undo->pieces()) {
        require(piece.range.offset >= end && piece.range.fits_in(undo->info().volume_size) &&
                    piece.range.length <= undo_piece_size,
                "pieces are in order and within the volume");
        end = piece.range.end();
        data.resize(piece.range.length);
        (void)undo->read(piece, data);
    }
}

void verify_record(Bytes bytes) {
    Input input(bytes);
    const bool mended = input.flag();
    std::string text(as_text(input.rest()));
    if (mended) {
        text = fmt::format("{:08x} {}\n", crc32c(bytes_of(text)), text);
    }
    const MemoryFile file(bytes_of(text));
    const auto record = load_verify_record(file.path());
    if (!record || !*record) {
        return;
    }
    (void)verify_status(**record, WallTime(std::chrono::seconds(1)),
                        VerifyPace{.bytes_per_second = 1, .waits_for = {}});
    const std::string path = temp_folder() + "/volume/verify.json";
    require(save_verify_record(path, **record).has_value(), "what was read can be written");
    const auto again = load_verify_record(path);
    require(again && *again == *record, "what was written is what was read");
}

void small_files(Bytes bytes) {
    const MemoryFile file(bytes);
    tools::EventsFile events(file.path());
    const tools::EventFilter filter{.volume = "r0", .since = WallTime(std::chrono::seconds(1))};
    (void)events.read_all([&](std::string_view line) {
        const auto event = control::parse_shallow(line);
        if (event.is_object()) {
            (void)filter.wants(event);
            (void)tools::format_event(event, {});
        }
    });
    const NodeConfig node{.name = "alpha", .run_dir = temp_folder(), .state_dir = temp_folder()};
    const std::string folder = temp_folder() + "/r0";
    const std::string path = folder + "/rto.json";
    (void)::unlink(path.c_str());
    require(::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST, "there is a folder");
    require(::symlink(file.path().c_str(), path.c_str()) == 0, "there is a file");
    // It becomes a part of the status, which is written as text.
    (void)daemon::read_rto(node, "r0")
        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// What was read can be written, and is the same then.
void psk_file(Bytes bytes) {
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto keys = tls::parse_psk_keys(text, "cluster.psk");
    if (!keys) {
        require(!keys.error().message.empty(), "a refusal has a reason");
        return;
    }
    require(!keys->empty() && keys->size() <= tls::most_psk_lines, "the number of keys is bounded");
    const auto again = tls::parse_psk_keys(tls::text_of(*keys), "cluster.psk");
    require(again && again->size() == keys->size(), "what is written can be read");
    for (std::size_t at = 0; at < keys->size(); ++at) {
        require((*again)[at].name == (*keys)[at].name && (*again)[at].secret == (*keys)[at].secret,
                "keys stay what they are");
    }
}

}  // namespace mirror::fuzz
