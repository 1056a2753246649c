// SPDX-License-Identifier: BSD-3-Clause
// What mirrord's NBD server shows: the mailbox, and what the replicas here offer to an active
// elsewhere. Called from connections' threads.
#pragma once

#include "core/nbd/export.hpp"
#include "daemon/requests.hpp"

namespace mirror::daemon {

class Exports final : public nbd::ExportProvider {
  public:
    Exports(Requests& requests, const Keepers& keepers) : requests_(requests), keepers_(keepers) {}

    [[nodiscard]] std::vector<std::string> list(const nbd::Client& client) override;
    [[nodiscard]] Result<std::unique_ptr<nbd::Export>> open(
        const std::string& name, const nbd::Client& client,
        std::function<void()> shutdown) override;

  private:
    [[nodiscard]] Result<void> require_replica_reader(const VolumeKeeper& keeper,
                                                      const nbd::Client& client);

    Requests& requests_;
    const Keepers& keepers_;
};

}  // namespace mirror::daemon
