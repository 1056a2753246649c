// SPDX-License-Identifier: BSD-3-Clause
// A slot, 8192 bytes, numbers little-endian:
//
//   offset  size  field
//        0     8  magic "MIRRDSK1"
//        8     4  version, 1
//       12     4  CRC32C of bytes 16 to 8191
//       16     8  sequence
//       24    16  volume id
//       40     8  size of the volume in bytes
//       48     1  role: 0 standby, 1 active
//       49     1  replica state: 0 new, 1 up-to-date, 2 stale, 3 inconsistent, 4 failed
//       50     1  flags: 1 unclean, 2 last active, 4 solo, 8 paused, 16 doubtful
//       51     1  number of lineage entries, at most 32
//       52     4  zero
//       56    16  session id
//       72     8  created       times are microseconds since 1970, signed;
//       80     8  last update   0 stands for never
//       88     8  break
//       96     8  last in sync
//      104     8  media errors
//      112    64  volume name   names are one byte of length and up to 63 bytes,
//      176    64  node          the rest zero
//      240    64  peer
//      304    16  the generation that it yields to
//      320     8  bytes that a resync could not read for it
//      328    32  steps: taken, offered, content, maps from; 8 each
//      360     8  change mark of the backing
//      368   128  identity of the backing: one byte of length and up to 127 bytes
//      496    16  zero
//      512  3584  lineage, newest first, 112 bytes each:
//                   0 id (16), 16 parent (16), 32 began (8), 40 reason (1),
//                   41 the step that it went on from (7),
//                   48 node (64)
//     4096  4096  zero
#include "core/meta/superblock.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/base/checksum.hpp"
#include "core/meta/bytes.hpp"

namespace mirror {
namespace {

using detail::get;
using detail::get_id;
using detail::get_time;
using detail::put;
using detail::put_id;
using Slot = std::span<std::byte, superblock_slot_size>;
using ConstSlot = std::span<const std::byte, superblock_slot_size>;

constexpr std::string_view magic = "MIRRDSK1";
constexpr std::uint32_t version = 1;
constexpr std::size_t checked_from = 16;
constexpr std::size_t name_size = 64;
constexpr std::size_t volume_name_at = 112;
constexpr std::size_t node_at = 176;
constexpr std::size_t peer_at = 240;
constexpr std::size_t yields_to_at = 304;
constexpr std::size_t lacking_bytes_at = 320;
constexpr std::size_t steps_at = 328;
constexpr std::size_t backing_mark_at = 360;
constexpr std::size_t backing_identity_at = 368;
constexpr std::size_t identity_size = 128;
constexpr std::size_t lineage_at = 512;
constexpr std::size_t entry_size = 112;
constexpr std::size_t entry_node_at = 48;
constexpr unsigned bits_of_reason = 8;  // it shares eight bytes with the step
static_assert(lineage_at + Lineage::capacity * entry_size <= superblock_slot_size);

constexpr std::uint8_t flag_unclean = 1;
constexpr std::uint8_t flag_last_active = 2;
constexpr std::uint8_t flag_solo = 4;
constexpr std::uint8_t flag_paused = 8;
constexpr std::uint8_t flag_doubtful = 16;
constexpr std::uint8_t all_flags =
    flag_unclean | flag_last_active | flag_solo | flag_paused | flag_doubtful;

void put_time(std::span<std::byte> bytes, std::size_t at, WallTime time) {
    put(bytes, at, static_cast<std::uint64_t>(time.time_since_epoch().count()));
}

Result<void> put_name(std::span<std::byte> bytes, std::size_t at, const std::string& name,
                      std::size_t size = name_size) {
    if (name.size() >= size) {
        return fail(ErrorKind::invalid, "the name '{}' is longer than {} bytes", name, size - 1);
    }
    put(bytes, at, static_cast<std::uint8_t>(name.size()));
    std::memcpy(bytes.subspan(at + 1, name.size()).data(), name.data(), name.size());
    return {};
}

Result<std::string> get_name(std::span<const std::byte> bytes, std::size_t at,
                             std::size_t size = name_size) {
    const std::size_t length = get<std::uint8_t>(bytes, at);
    if (length >= size) {
        return fail(ErrorKind::corrupt, "a name of {} bytes", length);
    }
    std::string name(length, '\0');
    std::memcpy(name.data(), bytes.subspan(at + 1, length).data(), length);
    return name;
}

template <typename Enum>
Result<Enum> get_enum(std::span<const std::byte> bytes, std::size_t at, Enum last,
                      std::string_view what) {
    const auto number = get<std::uint8_t>(bytes, at);
    if (number > static_cast<std::uint8_t>(last)) {
        return fail(ErrorKind::corrupt, "{} {} is not known", what, number);
    }
    return static_cast<Enum>(number);
}

Result<void> put_lineage(Slot slot, const Lineage& lineage) {
    put(slot, 51, static_cast<std::uint8_t>(lineage.entries().size()));
    std::size_t at = lineage_at;
    for (const Generation& generation : lineage.entries()) {
        put_id(slot, at, generation.id);
        put_id(slot, at + 16, generation.parent);
        put_time(slot, at + 32, generation.began);
        put(slot, at + 40,
            static_cast<std::uint64_t>(generation.reason) |
                std::min(generation.from_step, largest_step) << bits_of_reason);
        if (auto named = put_name(slot, at + entry_node_at, generation.node); !named) {
            return named;
        }
        at += entry_size;
    }
    return {};
}

Result<Lineage> get_lineage(ConstSlot slot) {
    const std::size_t count = get<std::uint8_t>(slot, 51);
    if (count > Lineage::capacity) {
        return fail(ErrorKind::corrupt, "a lineage of {} generations", count);
    }
    std::vector<Generation> entries;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t at = lineage_at + i * entry_size;
        const auto reason =
            get_enum(slot, at + 40, GenerationReason::resolved, "the reason of a generation");
        auto node = get_name(slot, at + entry_node_at);
        if (!reason || !node) {
            return Failure(reason ? node.error() : reason.error());
        }
        entries.push_back(Generation{get_id<GenerationId>(slot, at),
                                     get_id<GenerationId>(slot, at + 16), get_time(slot, at + 32),
                                     std::move(*node), *reason,
                                     get<std::uint64_t>(slot, at + 40) >> bits_of_reason});
    }
    return Lineage(std::move(entries));
}

Result<void> check_frame(ConstSlot slot) {
    if (std::memcmp(slot.data(), magic.data(), magic.size()) != 0) {
        return fail(
            ErrorKind::corrupt, "{}",
            is_zero(slot) ? "it was never written" : "it is not a superblock of mirrordisk");
    }
    if (const auto found = get<std::uint32_t>(slot, 8); found != version) {
        return fail(ErrorKind::corrupt, "version {} is not known to this program ({})", found,
                    version);
    }
    if (get<std::uint32_t>(slot, 12) != crc32c(slot.subspan(checked_from))) {
        return fail(ErrorKind::corrupt, "its checksum does not match");
    }
    return {};
}

Result<void> get_names(ConstSlot slot, Superblock& block) {
    auto identity = get_name(slot, backing_identity_at, identity_size);
    if (!identity) {
        return Failure(identity.error());
    }
    block.backing_identity = std::move(*identity);
    const std::array<std::pair<std::size_t, std::string*>, 3> names{
        {{volume_name_at, &block.volume_name}, {node_at, &block.node}, {peer_at, &block.peer}}};
    for (const auto& [at, name] : names) {
        auto read = get_name(slot, at);
        if (!read) {
            return Failure(read.error());
        }
        *name = std::move(*read);
    }
    return {};
}

void put_steps(Slot slot, const Steps& steps) {
    put(slot, steps_at, steps.taken);
    put(slot, steps_at + 8, steps.offered);
    put(slot, steps_at + 16, steps.content);
    put(slot, steps_at + 24, steps.maps_from);
}

Steps get_steps(ConstSlot slot) {
    return {.taken = get<std::uint64_t>(slot, steps_at),
            .offered = get<std::uint64_t>(slot, steps_at + 8),
            .content = get<std::uint64_t>(slot, steps_at + 16),
            .maps_from = get<std::uint64_t>(slot, steps_at + 24)};
}

/// Role, replica state and flags.
Result<void> get_condition(ConstSlot slot, Superblock& block) {
    const auto role = get_enum(slot, 48, Role::active, "role");
    const auto state = get_enum(slot, 49, ReplicaState::failed, "replica state");
    const auto flags = get<std::uint8_t>(slot, 50);
    if (!role || !state) {
        return Failure(role ? state.error() : role.error());
    }
    if ((flags & ~unsigned{all_flags}) != 0) {
        return fail(ErrorKind::corrupt, "flags {:#x} are not known", flags);
    }
    block.role = *role;
    block.state = *state;
    block.unclean = (flags & flag_unclean) != 0;
    block.last_active = (flags & flag_last_active) != 0;
    block.solo = (flags & flag_solo) != 0;
    block.paused = (flags & flag_paused) != 0;
    block.doubtful = (flags & flag_doubtful) != 0;
    return {};
}

}  // namespace

Result<void> encode(const Superblock& block, Slot slot) {
    std::fill(slot.begin(), slot.end(), std::byte{0});
    std::memcpy(slot.data(), magic.data(), magic.size());
    put(slot, 8, version);
    put(slot, 16, block.sequence);
    put_id(slot, 24, block.volume);
    put(slot, 40, block.size);
    put(slot, 48, static_cast<std::uint8_t>(block.role));
    put(slot, 49, static_cast<std::uint8_t>(block.state));
    const unsigned flags = (block.unclean ? flag_unclean : 0U) |
                           (block.last_active ? flag_last_active : 0U) |
                           (block.solo ? flag_solo : 0U) | (block.paused ? flag_paused : 0U) |
                           (block.doubtful ? flag_doubtful : 0U);
    put(slot, 50, static_cast<std::uint8_t>(flags));
    put_id(slot, 56, block.session);
    put_time(slot, 72, block.created);
    put_time(slot, 80, block.last_update);
    put_time(slot, 88, block.break_at);
    put_time(slot, 96, block.synced_at);
    put(slot, 104, block.media_errors);
    put_id(slot, yields_to_at, block.yields_to);
    put(slot, lacking_bytes_at, block.lacking_bytes);
    put_steps(slot, block.steps);
    put(slot, backing_mark_at, block.backing_mark);
    const auto put_rest = [&]() -> Result<void> {
        if (auto named = put_name(slot, volume_name_at, block.volume_name); !named) {
            return named;
        }
        if (auto named = put_name(slot, node_at, block.node); !named) {
            return named;
        }
        if (auto named = put_name(slot, peer_at, block.peer); !named) {
            return named;
        }
        if (auto named = put_name(slot, backing_identity_at, block.backing_identity, identity_size);
            !named) {
            return named;
        }
        return put_lineage(slot, block.lineage);
    };
    if (auto rest = put_rest(); !rest) {
        return rest;
    }
    put(slot, 12, crc32c(slot.subspan(checked_from)));
    return {};
}

Result<Superblock> decode(ConstSlot slot) {
    if (auto frame = check_frame(slot); !frame) {
        return Failure(frame.error());
    }
    Superblock block;
    block.sequence = get<std::uint64_t>(slot, 16);
    block.volume = get_id<VolumeId>(slot, 24);
    block.size = get<std::uint64_t>(slot, 40);
    if (auto condition = get_condition(slot, block); !condition) {
        return Failure(condition.error());
    }
    block.session = get_id<SessionId>(slot, 56);
    block.created = get_time(slot, 72);
    block.last_update = get_time(slot, 80);
    block.break_at = get_time(slot, 88);
    block.synced_at = get_time(slot, 96);
    block.media_errors = get<std::uint64_t>(slot, 104);
    block.yields_to = get_id<GenerationId>(slot, yields_to_at);
    block.lacking_bytes = get<std::uint64_t>(slot, lacking_bytes_at);
    block.steps = get_steps(slot);
    block.backing_mark = get<std::uint64_t>(slot, backing_mark_at);
    if (auto names = get_names(slot, block); !names) {
        return Failure(names.error());
    }
    auto lineage = get_lineage(slot);
    if (!lineage) {
        return Failure(lineage.error());
    }
    block.lineage = std::move(*lineage);
    return block;
}

ReplicaSummary summarize(const Superblock& block, std::uint64_t intent_bytes,
                         std::uint64_t changed_bytes) {
    return ReplicaSummary{.node = block.node,
                          .volume = block.volume,
                          .size = block.size,
                          .role = block.role,
                          .state = block.state,
                          .unclean = block.unclean,
                          .last_active = block.last_active,
                          .lineage = block.lineage,
                          .session = block.session,
                          .intent_bytes = intent_bytes,
                          .changed_bytes = changed_bytes,
                          .last_update = block.last_update,
                          .break_at = block.break_at,
                          .yields_to = block.yields_to,
                          .lacking_bytes = block.lacking_bytes,
                          .steps = block.steps,
                          .doubtful = block.doubtful};
}

}  // namespace mirror
