// SPDX-License-Identifier: BSD-3-Clause
// One connection's place in a standby's session, and the two exports that have one: the data and
// its digests. While a member lives its session is not over. What may take a disk long is done in
// pieces, each of them watched(): so the active sees that the disk works, and a write behind a long
// request is held up by a disk that hangs alone.
#pragma once

#include <list>

#include "core/standby/replica.hpp"

namespace mirror {

/// Leaves the session when it goes away. Made by Replica::open_export under its mutex.
class SessionMember {
  public:
    SessionMember(Replica& replica, std::list<Replica::Member>::iterator member)
        : replica_(replica), member_(member) {}
    SessionMember(const SessionMember&) = delete;
    SessionMember& operator=(const SessionMember&) = delete;
    ~SessionMember();

    [[nodiscard]] Store& backing() const noexcept { return *replica_.backing_; }
    [[nodiscard]] WriteBehind& write_behind() const noexcept { return replica_.write_behind_; }
    /// Does `work` on the backing: as a sign of life of the session, seen by status while it takes
    /// its time, and with an error told to the replica's owner.
    template <typename Work>
    [[nodiscard]] Result<void> watched(MediaOperation operation, ByteRange range,
                                       const Work& work) const {
        Result<void> result = [&] {
            const AtTheDisk working(*member_->busy_since, replica_.activity_->note_request());
            return work();
        }();
        if (!result) {
            report(operation, range, result.error());
        }
        return result;
    }

  private:
    void report(MediaOperation operation, ByteRange range, const Error& error) const;

    Replica& replica_;
    std::list<Replica::Member>::iterator member_;
};

[[nodiscard]] std::unique_ptr<nbd::Export> make_data_export(std::unique_ptr<SessionMember> member);
[[nodiscard]] std::unique_ptr<nbd::Export> make_digest_export(std::unique_ptr<SessionMember> member,
                                                              const SessionId& session);
/// One bit a region, least significant first: a copy of `regions`.
[[nodiscard]] std::unique_ptr<nbd::Export> make_changes_export(const Bitmap& regions);
/// How the work at the disk gets on (core/nbd/work_report.hpp). Answers whatever the disk does, and
/// may outlive the replica. `device_counters`: see Store.
[[nodiscard]] std::unique_ptr<nbd::Export> make_progress_export(
    std::shared_ptr<DiskActivity> activity, std::string device_counters);

}  // namespace mirror
