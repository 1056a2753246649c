// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/grow_replica.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>

#include "core/base/json.hpp"
#include "core/base/trusted_file.hpp"
#include "core/control/messages.hpp"
#include "core/meta/meta_file.hpp"
#include "core/store/grow.hpp"
#include "daemon/resize_plan.hpp"

namespace mirror::daemon {
namespace {

struct GrowRequest {
    std::string step;
    std::uint64_t from = 0;  ///< the size of the active
    std::uint64_t to = 0;    ///< the size that is wanted
};

Result<GrowRequest> parse(const Json& request) {
    const auto step = control::string_field(request, "step");
    const auto source = control::string_field(request, "source");
    const auto from = control::uint_field(request, "from_bytes");
    const auto to = control::uint_field(request, "size_bytes");
    if (!step || !source || !from || !to) {
        return fail(ErrorKind::invalid, "resize-replica: a field is missing or of the wrong type");
    }
    if (*step != "check") {
        if (auto possible = require_volume_size(*to); !possible) {
            return Failure(possible.error());
        }
    }
    return GrowRequest{*step, *from, *to};
}

Result<std::uint64_t> size_of(VolumeKeeper& keeper) {
    const auto lease = keeper.replica();
    return lease ? Result<std::uint64_t>((*lease)->superblock().size) : Failure(lease.error());
}

Result<Json> look(VolumeKeeper& keeper, std::uint64_t size) {
    const auto info = inspect_backing(keeper.backing_path());
    if (!info) {
        return Failure(info.error());
    }
    return Json{{"replica_bytes", size},
                {"backing_bytes", info->size},
                {"is_device", info->is_block_device}};
}

/// What lies beyond the active's end is nobody's, but only in a session does it say where its end
/// is.
Result<void> require_no_data(VolumeKeeper& keeper, std::uint64_t size, std::uint64_t from) {
    if (from >= size) {
        return {};
    }
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    const auto session = (*lease)->session();
    if (session && session->connections > 0 && session->source == keeper.peer()) {
        return {};
    }
    return fail(ErrorKind::refused, "{} on {} has {} bytes and is in no session", keeper.name(),
                keeper.node(), size);
}

Result<void> grow_metadata(VolumeKeeper& keeper, std::uint64_t to) {
    const auto operation = keeper.begin("resize");
    if (!operation) {
        return Failure(operation.error());
    }
    // A session that began since the active asked is shut; it begins again with the new size.
    keeper.close_replica(*operation);
    auto grown = grow_meta(keeper.meta_file(), to);
    auto opened = keeper.open_standby(*operation);
    return grown ? opened : grown;
}

}  // namespace

Result<ResizeLock> ResizeLock::take(const VolumeKeeper& keeper) {
    const std::string path =
        std::filesystem::path(keeper.meta_file()).replace_filename("resize.lock").string();
    auto file = open_own_file(path, O_RDWR | O_CREAT, 0600);
    if (!file) {
        return Failure(file.error());
    }
    if (::flock(file->get(), LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? Failure(Error{ErrorKind::busy,
                                   fmt::format("a resize of {} is in progress on {}", keeper.name(),
                                               keeper.node()),
                                   "wait until it has ended"})
                   : fail_errno(errno, path);
    }
    return ResizeLock(std::move(*file));
}

Result<void> grow_own_backing(VolumeKeeper& keeper, const ResizeLock&, std::uint64_t from,
                              std::uint64_t to) {
    // The operation is not held for hours; the lock keeps another resize out, on both nodes. Once
    // the volume is not active here its end may move, and this has to end.
    return grow_backing(keeper.backing_path(), from, to, [&] {
        return keeper.peers().is_stopping() || keeper.place() == Place::standby;
    });
}

namespace {

/// Zeroing takes hours on some disks, and the session in which the active said where its end is may
/// be over long before. Who promotes this replica meanwhile makes data of all of it: closing it
/// waits for the lease, and the zeroing sees that it is to end.
Result<void> grow_standby_backing(VolumeKeeper& keeper, const ResizeLock&,
                                  const GrowRequest& wanted, std::uint64_t size) {
    const auto lease = keeper.replica();
    if (!lease) {
        return Failure(lease.error());
    }
    if (auto free = require_no_data(keeper, size, wanted.from); !free) {
        return free;
    }
    return grow_backing(keeper.backing_path(), std::min(wanted.from, size), wanted.to, [&] {
        return keeper.peers().is_stopping() || keeper.place() != Place::standby;
    });
}

}  // namespace

Result<Json> resize_replica(VolumeKeeper& keeper, const Json& request) {
    const auto wanted = parse(request);
    if (!wanted) {
        return Failure(wanted.error());
    }
    if (wanted->step == "check") {
        const auto size = size_of(keeper);
        return size ? look(keeper, *size) : Failure(size.error());
    }
    const auto lock = ResizeLock::take(keeper);
    if (!lock) {
        return Failure(lock.error());
    }
    // With the lock: another resize may have ended a moment before, and what was beyond the end is
    // data since then.
    const auto found = size_of(keeper);
    if (!found) {
        return Failure(found.error());
    }
    const std::uint64_t size = *found;
    Result<void> done;
    if (wanted->step == "backing") {
        done = grow_standby_backing(keeper, *lock, *wanted, size);
    } else if (wanted->step == "metadata") {
        done = size == wanted->to ? done : grow_metadata(keeper, wanted->to);
    } else {
        done = fail(ErrorKind::invalid, "resize-replica: there is no step '{}'",
                    wanted->step.substr(0, 60));
    }
    if (!done) {
        return Failure(done.error());
    }
    return Json::object();
}

}  // namespace mirror::daemon
