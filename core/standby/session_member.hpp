// SPDX-License-Identifier: BSD-3-Clause
// One connection's place in a standby's session, and the two exports that have one: the data and
// its digests. While a member lives its session is not over.
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
    /// Does `work` on the backing: as a sign of life of the session, seen by status while it takes
    /// its time, and with an error told to the replica's owner.
    template <typename Work>
    [[nodiscard]] Result<void> watched(MediaOperation operation, ByteRange range,
                                       const Work& work) const {
        member_->busy_since->store(replica_.note_request(), std::memory_order_relaxed);
        Result<void> result = work();
        member_->busy_since->store(0, std::memory_order_relaxed);
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

}  // namespace mirror
