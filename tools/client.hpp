// SPDX-License-Identifier: BSD-3-Clause
// Asking mirrord over its socket. An interface, so that the verbs are tested with canned answers.
// Main thread.
#pragma once

#include <chrono>
#include <string>

#include "core/base/error.hpp"
#include "core/config/config.hpp"
#include "tools/fields.hpp"

namespace mirror::tools {

class Client {
  public:
    virtual ~Client() = default;
    /// One request, one answer. A daemon that cannot be asked is an error of kind `unreachable`.
    [[nodiscard]] virtual Result<Json> ask(const Json& request,
                                           std::chrono::milliseconds deadline) = 0;
};

/// The status of all volumes, however many there are.
[[nodiscard]] Result<Json> ask_status_of_all(Client& client, std::chrono::milliseconds deadline);

class DaemonClient : public Client {
  public:
    /// `control_group` is the config's, for who is not let in.
    DaemonClient(const NodeConfig& node, std::string control_group)
        : node_(node), control_group_(std::move(control_group)) {}
    [[nodiscard]] Result<Json> ask(const Json& request,
                                   std::chrono::milliseconds deadline) override;

  private:
    const NodeConfig node_;
    const std::string control_group_;
};

}  // namespace mirror::tools
