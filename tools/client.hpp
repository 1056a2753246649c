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

class DaemonClient : public Client {
  public:
    explicit DaemonClient(const NodeConfig& node) : node_(node) {}
    [[nodiscard]] Result<Json> ask(const Json& request,
                                   std::chrono::milliseconds deadline) override;

  private:
    const NodeConfig node_;
};

}  // namespace mirror::tools
