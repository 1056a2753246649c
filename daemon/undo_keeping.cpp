// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/undo_keeping.hpp"

#include <vector>

#include "core/base/json.hpp"
#include "core/control/messages.hpp"
#include "core/undo/undo_folder.hpp"
#include "core/undo/undo_writer.hpp"
#include "daemon/evidence.hpp"

namespace mirror::daemon {
namespace {

UndoFolder folder_of(const VolumeKeeper& keeper) {
    return UndoFolder(keeper.home().state_dir, keeper.name());
}

Result<void> save_blocks(VolumeKeeper& keeper, Replica& replica, const Bitmap& blocks,
                         UndoWriter& writer) {
    constexpr std::uint64_t longest = region_size / block_size;
    const std::uint64_t size = replica.backing().size();
    std::vector<std::byte> buffer(region_size);
    std::uint64_t from = 0;
    while (const auto run = from < blocks.size() ? blocks.next_run(from, longest) : std::nullopt) {
        if (keeper.peers().is_stopping()) {
            return fail(ErrorKind::busy, "mirrord is being stopped; nothing was changed");
        }
        const ByteRange range = bytes_of(*run, block_size, size);
        const std::span<std::byte> data(buffer.data(), range.length);
        auto saved = replica.backing().read(data, range.offset).and_then([&] {
            return writer.add(range.offset, data);
        });
        if (!saved) {
            return saved;
        }
        from = run->last;
    }
    return writer.finish();
}

}  // namespace

Result<Json> save_undo(VolumeKeeper& keeper, Replica& replica, const Sides& sides,
                       const ResolvePlan& plan) {
    const UndoFolder folder = folder_of(keeper);
    folder.remove_unfinished();
    const auto id = folder.next_id();
    if (!id) {
        return Failure(id.error());
    }
    // The operation is held, so that the number stays free. The replica is read for long, under a
    // lease: it is diverged or decided about, so that no session writes to it.
    const std::string path = folder.path_of(*id);
    const Generation* ancestor = find_ancestor(sides.loser.lineage, sides.keeper.lineage);
    auto writer = UndoWriter::create(
        path,
        {sides.loser.volume, keeper.name(), sides.loser.size, sides.loser.node, sides.keeper.node,
         keeper.context().clock.wall_now(), sides.loser.lineage.current(),
         sides.keeper.lineage.current(), ancestor == nullptr ? GenerationId{} : ancestor->id});
    auto saved = writer ? save_blocks(keeper, replica, *plan.blocks, *writer)
                        : Result<void>(Failure(writer.error()));
    if (!saved) {
        Error error =
            saved.error().within("the undo file can't be written, so nothing was changed");
        if (error.kind != ErrorKind::busy) {
            error.remedy = "correct that, or add --no-undo: then the data is gone for good";
        }
        return Failure(error);
    }
    return Json{{"id", *id}, {"path", path}, {"saved_bytes", writer->saved_bytes()}};
}

Result<Json> drop_undo(VolumeKeeper& keeper, const Json& request) {
    const auto id = control::uint_field(request, "id");
    const auto dry_run = control::bool_field_or(request, "dry_run", false);
    if (!id || !dry_run) {
        return Failure(id ? dry_run.error() : id.error());
    }
    const auto operation = keeper.begin("undo --drop");
    if (!operation) {
        return Failure(operation.error());
    }
    const UndoFolder folder = folder_of(keeper);
    const std::string path = folder.path_of(*id);
    if (*dry_run) {
        return Json{{"would", Json::array({fmt::format("remove {}", path)})},
                    {"bytes", nullptr},
                    {"seconds", nullptr}};
    }
    if (auto dropped = folder.drop(*id); !dropped) {
        return Failure(dropped.error());
    }
    const std::string text = fmt::format("undo {} of {} was dropped", *id, keeper.name());
    keeper.record("undo-dropped", Severity::info, text, "mirrorctl undo --drop was requested");
    return Json{{"text", text}, {"seconds", 0}};
}

}  // namespace mirror::daemon
