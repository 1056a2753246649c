// SPDX-License-Identifier: BSD-3-Clause
// The express door: RUN_DIR/VOLUME.express.sock, an NBD server next to nbdkit's in the same process
// and on the same volume. It serves all its clients with one thread, which costs a fraction of a
// thread a request (docs/design.md, section 19). For the kernel's client, for QEMU and whoever else
// wants the volume; and for mirrord, whose mailbox has one thread here and nbdkit's pool of them
// there. It is made before the engine gives up its
// privileges, serves after Volume::start(), and goes before the volume does. One thread calls it.
#pragma once

#include <memory>
#include <string>

#include "core/base/worker_pool.hpp"
#include "core/engine/volume.hpp"
#include "core/engine/volume_requests.hpp"
#include "core/nbd/loop_server.hpp"

namespace mirror {

class ExpressDoor {
  public:
    /// Makes the socket, its owner's alone; clients can connect and wait.
    [[nodiscard]] static Result<std::unique_ptr<ExpressDoor>> open(Volume& volume,
                                                                   const std::string& path);
    [[nodiscard]] Result<void> serve();
    /// Requests that are under way are answered, with an error where they wait for the peer: this
    /// is the end of the volume's role, too.
    ~ExpressDoor();
    ExpressDoor(const ExpressDoor&) = delete;
    ExpressDoor& operator=(const ExpressDoor&) = delete;

  private:
    /// Who may open what.
    class Provider final : public nbd::ExportProvider {
      public:
        explicit Provider(Volume& volume) : volume_(volume) {}
        [[nodiscard]] std::vector<std::string> list(const nbd::Client& client) override;
        [[nodiscard]] Result<std::unique_ptr<nbd::Export>> open(
            const std::string& name, const nbd::Client& client,
            std::function<void()> shutdown) override;

      private:
        Volume& volume_;
    };

    explicit ExpressDoor(Volume& volume);

    Volume& volume_;
    WorkerPool pool_;
    Provider provider_;
    VolumeRequests requests_;
    nbd::LoopServer server_;
};

}  // namespace mirror
