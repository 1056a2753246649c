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
    void note_request() const noexcept { replica_.note_request(); }
    /// The same result; an error is told to the replica's owner first.
    [[nodiscard]] Result<void> watched(Result<void> result) const;

  private:
    Replica& replica_;
    std::list<Replica::Member>::iterator member_;
};

[[nodiscard]] std::unique_ptr<nbd::Export> make_data_export(std::unique_ptr<SessionMember> member);
[[nodiscard]] std::unique_ptr<nbd::Export> make_digest_export(std::unique_ptr<SessionMember> member,
                                                              const SessionId& session);
/// One bit a region, least significant first: a copy of `regions`.
[[nodiscard]] std::unique_ptr<nbd::Export> make_changes_export(const Bitmap& regions);

}  // namespace mirror
