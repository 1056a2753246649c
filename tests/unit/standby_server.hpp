// SPDX-License-Identifier: BSD-3-Clause
// A standby as mirrord serves it, without mirrord: an NBD server on 127.0.0.1 with the control
// mailbox and the exports of one replica. A test can sever its network, silence it, and start it
// again on the same port.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/json.hpp"
#include "core/base/sync.hpp"
#include "core/control/mailbox.hpp"
#include "core/nbd/server.hpp"
#include "core/standby/replica.hpp"

namespace mirror::test {

class StandbyServer final : public nbd::ExportProvider {
  public:
    explicit StandbyServer(std::string volume) : volume_(std::move(volume)) {}
    ~StandbyServer() override { stop(); }

    /// Takes the port that it had before, else a free one.
    void start(std::unique_ptr<Replica> replica);
    /// Ends every connection, then the replica. The port is nobody's until the next start().
    void stop();
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
    /// Null while stopped.
    [[nodiscard]] Replica* replica() const noexcept { return replica_.get(); }

    /// Nobody comes through any more: connections end without another answer, new ones are
    /// refused. Does not wait.
    void sever();
    /// The connections of a session's data end, and those for control requests stay.
    void sever_links();
    /// After sever(): who comes is let in again, and meets the same replica.
    void reconnect();
    /// Requests are received and not answered while this holds.
    void be_silent(bool silent);
    /// From now on as a version before VOLUME/progress.
    void be_of_an_older_version() { is_older_ = true; }
    /// Called before a control request is carried out; an error is its answer.
    void on_request(std::function<Result<void>(const std::string&)> hook);
    /// Called after it was carried out, with the request; an error takes the place of its answer.
    void on_answer(std::function<Result<void>(const std::string&)> hook);
    /// Called at "open KIND" of an export, and at "ask REQUEST" and "done REQUEST", before a
    /// control request is carried out and after it was; an error is the answer.
    void on_point(std::function<Result<void>(const std::string&)> hook);
    /// Sessions that were begun since the start of the test.
    [[nodiscard]] int sessions() const noexcept { return sessions_; }
    /// Bytes of the largest control request since the last call.
    [[nodiscard]] std::size_t take_largest_request() { return largest_request_.exchange(0); }
    /// A session was begun since the last start().
    [[nodiscard]] bool was_met() const noexcept { return sessions_ > sessions_before_; }

    [[nodiscard]] std::vector<std::string> list(const nbd::Client& client) override;
    [[nodiscard]] Result<std::unique_ptr<nbd::Export>> open(
        const std::string& name, const nbd::Client& client,
        std::function<void()> shutdown) override;

    void wait_while_silent();

  private:
    [[nodiscard]] Result<control::Json> handle(const control::Json& request);
    [[nodiscard]] Result<control::Json> handshake(const control::Json& request);
    [[nodiscard]] Result<control::Json> answer(const std::string& what,
                                               const control::Json& request);
    [[nodiscard]] Result<void> at(const std::string& point);
    void end(const std::vector<std::function<void()>>& connections);
    [[nodiscard]] Result<void> carry_out(const std::string& what, const control::Json& request);

    const std::string volume_;
    std::uint16_t port_ = 0;
    std::unique_ptr<Replica> replica_;
    std::unique_ptr<nbd::Server> server_;
    std::atomic<std::size_t> largest_request_{0};
    std::atomic<bool> is_older_{false};
    std::atomic<int> sessions_{0};
    std::atomic<int> sessions_before_{0};  ///< sessions_ at the last start()

    Mutex mutex_;
    CondVar changed_;
    bool severed_ GUARDED_BY(mutex_) = false;
    bool silent_ GUARDED_BY(mutex_) = false;
    std::vector<std::function<void()>> shutdowns_ GUARDED_BY(mutex_);
    std::vector<std::function<void()>> link_shutdowns_ GUARDED_BY(mutex_);
    std::function<Result<void>(const std::string&)> hook_ GUARDED_BY(mutex_);
    std::function<Result<void>(const std::string&)> answer_hook_ GUARDED_BY(mutex_);
    std::function<Result<void>(const std::string&)> point_hook_ GUARDED_BY(mutex_);
};

}  // namespace mirror::test
