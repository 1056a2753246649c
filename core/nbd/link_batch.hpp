// SPDX-License-Identifier: BSD-3-Clause
// Commands of a link that are submitted one after the other and travel together: between the
// beginning and the end of a batch the link holds back what it has to send, so that many commands
// cost one send. Commands of other threads travel along, so whoever has a batch may not wait for
// anything before its end.
//
// Lives on the stack or in the owner of a batch, shorter than its link.
#pragma once

#include "core/nbd/link.hpp"

namespace mirror::nbd {

class LinkBatch {
  public:
    explicit LinkBatch(Link& link) : link_(link) { link_.begin_batch(); }
    LinkBatch(const LinkBatch&) = delete;
    LinkBatch& operator=(const LinkBatch&) = delete;
    /// What was held back is sent.
    ~LinkBatch() { link_.end_batch(); }

  private:
    Link& link_;
};

}  // namespace mirror::nbd
