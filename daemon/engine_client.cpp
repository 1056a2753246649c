// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/engine_client.hpp"

#include <algorithm>

#include "core/base/json.hpp"

namespace mirror::daemon {

EngineClient::EngineClient(std::string express, std::string socket, const std::string& volume)
    : express_{{}, std::move(express)},
      plain_{{}, std::move(socket)},
      name_(fmt::format("the engine of {}", volume)) {}

Result<Json> EngineClient::status(std::chrono::milliseconds age) {
    MutexLock lock(mutex_);
    const SteadyTime now = std::chrono::steady_clock::now();
    // That it did not answer may be over in a moment.
    if (!last_ || now - asked_ > (*last_ ? age : std::min(age, memory))) {
        last_ = ask_status();
        asked_ = std::chrono::steady_clock::now();
    }
    return *last_;
}

Result<EngineClient::Connection> EngineClient::connect(std::chrono::milliseconds deadline) const {
    auto express = control::MailboxClient::connect(express_, name_, deadline);
    if (express) {
        return Connection{std::move(*express), true};
    }
    if (express.error().kind == ErrorKind::timed_out) {
        return Failure(express.error());  // it hangs, and one such wait is enough
    }
    return control::MailboxClient::connect(plain_, name_, deadline)
        .map([](control::MailboxClient&& client) {
            return Connection{std::move(client), false};
        });
}

Result<Json> EngineClient::ask_status() {
    const Json request{{"request", "status"}};
    // Twice: the first failure may only mean that the connection was to an engine that has ended.
    for (int attempt = 0;; ++attempt) {
        const bool is_fresh = !connection_;
        if (is_fresh) {
            auto connected = connect(status_deadline);
            if (!connected) {
                return Failure(connected.error());
            }
            connection_ = std::move(*connected);
        }
        // nbdkit may do the read before the write.
        auto answer = connection_->is_express ? connection_->client.ask_at_once(request)
                                              : connection_->client.ask(request);
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
    auto connected = connect(deadline);
    return connected ? connected->client.ask(request) : Failure(connected.error());
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
