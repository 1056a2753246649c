// SPDX-License-Identifier: BSD-3-Clause
// The table of requests (docs/design.md, section 7): each is held against daemon/audience.hpp (who
// asks, and where the volume is) and given to who carries it out.
// handle() is called from many connections' threads at once; it never throws.
#pragma once

#include <functional>
#include <string>

#include "core/nbd/export.hpp"
#include "daemon/audience.hpp"
#include "daemon/find_volume.hpp"
#include "daemon/keepers.hpp"
#include "daemon/node_answers.hpp"
#include "daemon/peer_watch.hpp"
#include "daemon/refusal_log.hpp"

namespace mirror::daemon {

class EventHooks;

class Requests {
  public:
    Requests(const Context& context, Keepers& keepers, PeerWatch& peers,
             EventHooks* event_hooks = nullptr)
        : context_(context),
          keepers_(keepers),
          peers_(peers),
          event_hooks_(event_hooks),
          answers_(context, keepers, peers),
          refusals_(context.events, context.clock) {}

    [[nodiscard]] Result<Json> handle(const Json& request, const nbd::Client& client);
    /// Who carries out `reload`. Before the first request.
    void on_reload(std::function<Result<Json>(const Json&)> reload) { reload_ = std::move(reload); }

    [[nodiscard]] const Context& context() const noexcept { return context_; }
    [[nodiscard]] RefusalLog& refusals() noexcept { return refusals_; }
    /// As find_volume().
    [[nodiscard]] Result<VolumeKeeper*> keeper(const std::string& volume) const {
        return find_volume(context_, keepers_, volume);
    }

  private:
    [[nodiscard]] Result<Json> dispatch(const std::string& name, const Json& request,
                                        const nbd::Client& client);
    [[nodiscard]] Result<Json> ask_node(const Rule& rule, const Json& request,
                                        const nbd::Client& client);
    [[nodiscard]] Result<Json> ask_volume(const Rule& rule, const Json& request,
                                          const nbd::Client& client);
    [[nodiscard]] Result<Json> reload(const Json& request) const;
    [[nodiscard]] Result<Json> test_event_hooks(const Json& request) const;

    const Context& context_;
    Keepers& keepers_;
    PeerWatch& peers_;
    EventHooks* const event_hooks_;  ///< null: events are handed to nobody
    const NodeAnswers answers_;
    RefusalLog refusals_;
    std::function<Result<Json>(const Json&)> reload_;
};

}  // namespace mirror::daemon
