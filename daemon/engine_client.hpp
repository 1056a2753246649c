// SPDX-License-Identifier: BSD-3-Clause
// Asking the engine of one volume (docs/design.md, section 7.3). The status is asked for often, by
// people, peers and the peer watch: it has a connection of its own and a short memory, so that an
// engine that hangs costs each of them at most one short wait. It is asked at its express door,
// where a connection costs it one thread; an engine of an earlier version has its mailbox at
// nbdkit's door alone. Thread-safe.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "core/base/json.hpp"
#include "core/base/sync.hpp"
#include "core/control/mailbox.hpp"
#include "daemon/context.hpp"

namespace mirror::daemon {

class EngineClient {
  public:
    EngineClient(std::string express, std::string socket, const std::string& volume);

    /// At most so old, and a failure at most `memory`; waits at most `status_deadline`.
    [[nodiscard]] Result<Json> status(std::chrono::milliseconds age = memory) EXCLUDES(mutex_);
    /// Any other request, on a connection of its own.
    [[nodiscard]] Result<Json> ask(const Json& request, std::chrono::milliseconds deadline) const;
    /// Something was changed: the next status() asks.
    void forget_status() EXCLUDES(mutex_);
    /// The engine has ended: drops the connection and what was remembered.
    void forget() EXCLUDES(mutex_);

    static constexpr std::chrono::milliseconds memory{200};
    static constexpr std::chrono::milliseconds status_deadline{1500};

  private:
    struct Connection {
        control::MailboxClient client;
        bool is_express = false;
    };

    [[nodiscard]] Result<Connection> connect(std::chrono::milliseconds deadline) const;
    [[nodiscard]] Result<Json> ask_status() REQUIRES(mutex_);

    const nbd::Address express_;
    const nbd::Address plain_;
    const std::string name_;  ///< for messages
    Mutex mutex_;
    std::optional<Connection> connection_ GUARDED_BY(mutex_);
    std::optional<Result<Json>> last_ GUARDED_BY(mutex_);
    SteadyTime asked_ GUARDED_BY(mutex_){};
};

}  // namespace mirror::daemon
