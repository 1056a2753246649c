// SPDX-License-Identifier: BSD-3-Clause
// Commands of a link that are submitted one after the other and may travel together: between the
// beginning and the end of a batch the link may hold back what it has to send, so that many
// commands cost one send. It holds nothing back for an answer: whoever waits for one ends the batch
// first. One at a time for a link; commands of other threads may travel along.
//
// Lives on the stack or in the owner of a batch, shorter than its link.
#pragma once

#include "core/nbd/link.hpp"

namespace mirror::nbd {

class LinkBatch {
  public:
    /// Today's link sends each command at once, which is a batch of one.
    explicit LinkBatch(Link& /*link*/) noexcept {}
    LinkBatch(const LinkBatch&) = delete;
    LinkBatch& operator=(const LinkBatch&) = delete;
    /// What was held back is sent.
    ~LinkBatch() = default;
};

}  // namespace mirror::nbd
