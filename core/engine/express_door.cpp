// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/express_door.hpp"

#include <utility>

#include "core/base/json.hpp"
#include "core/control/mailbox.hpp"
#include "core/nbd/listener.hpp"

namespace mirror {
namespace {

Failure not_served_here() {
    return fail(ErrorKind::internal, "requests on the express socket take another path");
}

/// What the handshake shows of the volume, and one client in its count of them.
class Front final : public nbd::Export {
  public:
    explicit Front(Volume& volume) : volume_(volume) { volume_.client_opened(); }
    Front(const Front&) = delete;
    Front& operator=(const Front&) = delete;
    ~Front() override { volume_.client_closed(); }

    [[nodiscard]] nbd::Traits traits() const override {
        return {.size = volume_.size(),
                .flush = true,
                .trim = true,
                .zero = true,
                .multi_conn = true,
                .extents = true,
                .description = "the volume"};
    }
    [[nodiscard]] Result<void> read(std::span<std::byte> /*into*/,
                                    std::uint64_t /*offset*/) override {
        return not_served_here();
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> /*from*/,
                                     std::uint64_t /*offset*/) override {
        return not_served_here();
    }
    [[nodiscard]] Result<void> zero(ByteRange /*range*/, Space /*space*/) override {
        return not_served_here();
    }
    [[nodiscard]] Result<void> trim(ByteRange /*range*/) override { return not_served_here(); }
    [[nodiscard]] Result<void> flush() override { return not_served_here(); }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange /*range*/) override {
        return not_served_here();
    }

  private:
    Volume& volume_;
};

}  // namespace

std::vector<std::string> ExpressDoor::Provider::list(const nbd::Client& /*client*/) {
    return {volume_.name(), control::mailbox_export};
}

Result<std::unique_ptr<nbd::Export>> ExpressDoor::Provider::open(
    const std::string& name, const nbd::Client& client, std::function<void()> /*shutdown*/) {
    if (name.empty() || name == volume_.name()) {
        return std::make_unique<Front>(volume_);
    }
    if (name == control::mailbox_export && !nbd::is_ours(client)) {
        return fail(ErrorKind::refused, "the control export is for root");
    }
    if (name == control::mailbox_export) {
        return control::make_mailbox_export(
            [this](const control::Json& request, const nbd::Client& /*client*/) {
                return volume_.handle(request);
            },
            client);
    }
    return fail(ErrorKind::not_found, "no export '{}' here; this is volume '{}'", name,
                volume_.name());
}

ExpressDoor::ExpressDoor(Volume& volume)
    : volume_(volume),
      pool_("express"),
      provider_(volume),
      requests_(volume, pool_),
      server_(provider_, requests_, pool_, {}) {}

Result<std::unique_ptr<ExpressDoor>> ExpressDoor::open(Volume& volume, const std::string& path) {
    std::unique_ptr<ExpressDoor> door(new ExpressDoor(volume));
    if (auto listening = door->server_.listen(path); !listening) {
        return Failure(listening.error().within("the express socket"));
    }
    return door;
}

Result<void> ExpressDoor::serve() {
    auto started = pool_.start();
    if (started) {
        started = server_.start();
    }
    return started ? started : Failure(started.error().within("the express socket"));
}

ExpressDoor::~ExpressDoor() {
    volume_.refuse_requests();
    server_.stop();
    pool_.stop();
}

}  // namespace mirror
