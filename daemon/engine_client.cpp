// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/engine_client.hpp"

#include "core/base/json.hpp"

namespace mirror::daemon {

EngineClient::EngineClient(std::string socket, const std::string& volume)
    : address_{{}, std::move(socket)}, name_(fmt::format("the engine of {}", volume)) {}

Result<Json> EngineClient::status() {
    MutexLock lock(mutex_);
    const SteadyTime now = std::chrono::steady_clock::now();
    if (!last_ || now - asked_ > memory) {
        last_ = ask_status();
        asked_ = std::chrono::steady_clock::now();
    }
    return *last_;
}

Result<Json> EngineClient::ask_status() {
    // Twice: the first failure may only mean that the connection was to an engine that has ended.
    for (int attempt = 0;; ++attempt) {
        const bool is_fresh = !connection_;
        if (is_fresh) {
            auto connected = control::MailboxClient::connect(address_, name_, status_deadline);
            if (!connected) {
                return Failure(connected.error());
            }
            connection_ = std::move(*connected);
        }
        auto answer = connection_->ask({{"request", "status"}});
        if (answer) {
            return answer;
        }
        connection_.reset();
        if (is_fresh || attempt > 0 || answer.error().kind == ErrorKind::timed_out) {
            return answer;
        }
    }
}

Result<Json> EngineClient::ask(const Json& request, std::chrono::milliseconds deadline) const {
    return control::ask_once(address_, name_, request, deadline);
}

void EngineClient::forget_status() {
    MutexLock lock(mutex_);
    last_.reset();
}

void EngineClient::forget() {
    MutexLock lock(mutex_);
    connection_.reset();
    last_.reset();
}

}  // namespace mirror::daemon
