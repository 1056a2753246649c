// SPDX-License-Identifier: BSD-3-Clause
#include "standby_server.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/control/messages.hpp"
#include "core/lineage/handshake.hpp"

namespace mirror::test {
namespace {

using control::Json;

/// An export whose answers stop while the server is silent.
class SilencedExport final : public nbd::Export {
  public:
    SilencedExport(StandbyServer& server, std::unique_ptr<nbd::Export> inner)
        : server_(server), inner_(std::move(inner)) {}

    [[nodiscard]] nbd::Traits traits() const override { return inner_->traits(); }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        server_.wait_while_silent();
        return inner_->read(into, offset);
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        server_.wait_while_silent();
        return inner_->write(from, offset);
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space space) override {
        server_.wait_while_silent();
        return inner_->zero(range, space);
    }
    [[nodiscard]] Result<void> trim(ByteRange range) override {
        server_.wait_while_silent();
        return inner_->trim(range);
    }
    [[nodiscard]] Result<void> flush() override {
        server_.wait_while_silent();
        return inner_->flush();
    }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return inner_->extents(range);
    }
    [[nodiscard]] bool wants_flush() const noexcept override { return inner_->wants_flush(); }
    [[nodiscard]] bool is_over() const noexcept override { return inner_->is_over(); }

  private:
    StandbyServer& server_;
    std::unique_ptr<nbd::Export> inner_;
};

/// For hooks.
std::string kind_of(const std::string& name) {
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    return name == control::mailbox_export ? "mailbox"
           : has("/digest@")               ? "digests"
           : has("/changes")               ? "changes"
                                           : "data";
}

/// The two steps of a local disk's failure are questions of their own.
std::string point_of(const std::string& what, const Json& request) {
    return what == "generation" && request.value("confirmed", false) ? what + "-confirmed" : what;
}

}  // namespace

void StandbyServer::start(std::unique_ptr<Replica> replica) {
    replica_ = std::move(replica);
    sessions_before_ = sessions_.load();
    {
        MutexLock lock(mutex_);
        severed_ = false;
        silent_ = false;
        shutdowns_.clear();
        link_shutdowns_.clear();
    }
    // A connection attempt of the active may hold the free port for a moment.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (true) {
        server_ = std::make_unique<nbd::Server>(*this, nbd::ServerLimits{});
        const auto bound = server_->listen_tcp({"127.0.0.1", port_});
        if (bound) {
            port_ = *bound;
            return;
        }
        REQUIRE_MESSAGE(std::chrono::steady_clock::now() < deadline, bound.error().text());
        std::this_thread::yield();
    }
}

void StandbyServer::stop() {
    sever();
    be_silent(false);
    server_.reset();
    replica_.reset();
}

void StandbyServer::sever() {
    std::vector<std::function<void()>> connections;
    {
        MutexLock lock(mutex_);
        severed_ = true;
        connections.swap(shutdowns_);
    }
    end(connections);
    sever_links();
}

void StandbyServer::sever_links() {
    std::vector<std::function<void()>> connections;
    {
        MutexLock lock(mutex_);
        connections.swap(link_shutdowns_);
    }
    end(connections);
}

void StandbyServer::end(const std::vector<std::function<void()>>& connections) {
    for (const auto& shutdown : connections) {
        shutdown();
    }
}

void StandbyServer::reconnect() {
    MutexLock lock(mutex_);
    severed_ = false;
}

void StandbyServer::be_silent(bool silent) {
    MutexLock lock(mutex_);
    silent_ = silent;
    changed_.notify_all();
}

void StandbyServer::wait_while_silent() {
    MutexLock lock(mutex_);
    while (silent_) {
        changed_.wait(lock);
    }
}

void StandbyServer::on_request(std::function<Result<void>(const std::string&)> hook) {
    MutexLock lock(mutex_);
    hook_ = std::move(hook);
}

void StandbyServer::on_answer(std::function<Result<void>(const std::string&)> hook) {
    MutexLock lock(mutex_);
    answer_hook_ = std::move(hook);
}

void StandbyServer::on_point(std::function<Result<void>(const std::string&)> hook) {
    MutexLock lock(mutex_);
    point_hook_ = std::move(hook);
}

Result<void> StandbyServer::at(const std::string& point) {
    std::function<Result<void>(const std::string&)> hook;
    {
        MutexLock lock(mutex_);
        hook = point_hook_;
    }
    return hook ? hook(point) : Result<void>{};
}

std::vector<std::string> StandbyServer::list(const nbd::Client&) {
    return {control::mailbox_export};
}

Result<std::unique_ptr<nbd::Export>> StandbyServer::open(const std::string& name,
                                                         const nbd::Client& client,
                                                         std::function<void()> shutdown) {
    wait_while_silent();
    const std::string kind = kind_of(name);
    if (auto allowed = at("open " + kind); !allowed) {
        return Failure(allowed.error());
    }
    {
        MutexLock lock(mutex_);
        if (severed_) {
            return fail(ErrorKind::refused, "the network is severed");
        }
        (kind == "mailbox" ? shutdowns_ : link_shutdowns_).push_back(shutdown);
    }
    if (is_older_ && name.ends_with(nbd::progress_export)) {
        return fail(ErrorKind::not_found, "there is no export of that name");
    }
    Result<std::unique_ptr<nbd::Export>> opened;
    if (name == control::mailbox_export) {
        opened = control::make_mailbox_export(
            [this](const Json& request, const nbd::Client&) { return handle(request); }, client);
    } else if (name.starts_with(volume_)) {
        opened = replica_->open_export(name.substr(volume_.size()), std::move(shutdown));
    } else {
        opened = fail(ErrorKind::not_found, "no export '{}'", name);
    }
    return std::move(opened).map([this](std::unique_ptr<nbd::Export>&& inner) {
        return std::unique_ptr<nbd::Export>(
            std::make_unique<SilencedExport>(*this, std::move(inner)));
    });
}

Result<Json> StandbyServer::handle(const Json& request) {
    const auto what = control::string_field(request, "request");
    if (!what) {
        return Failure(what.error());
    }
    largest_request_ = std::max(largest_request_.load(), request.dump().size());
    std::function<Result<void>(const std::string&)> hook;
    std::function<Result<void>(const std::string&)> answer_hook;
    {
        MutexLock lock(mutex_);
        hook = hook_;
        answer_hook = answer_hook_;
    }
    const std::string point = point_of(*what, request);
    auto allowed = at("ask " + point);
    if (allowed && hook) {
        allowed = hook(*what);
    }
    if (!allowed) {
        return Failure(allowed.error());
    }
    auto given = answer(*what, request);
    if (given && answer_hook) {
        allowed = answer_hook(*what);
    }
    if (given && allowed) {
        allowed = at("done " + point);
    }
    return allowed ? given : Failure(allowed.error());
}

Result<Json> StandbyServer::answer(const std::string& what, const Json& request) {
    return what == "handshake" ? handshake(request)
                               : carry_out(what, request).map([] { return Json::object(); });
}

Result<Json> StandbyServer::handshake(const Json& request) {
    const auto summary = control::object_field(request, "summary");
    if (!summary) {
        return Failure(summary.error());
    }
    const auto theirs = control::decode_summary(**summary);
    if (!theirs) {
        return Failure(theirs.error());
    }
    const ReplicaSummary ours = replica_->summary();
    const Decision decision = decide(ours, *theirs);
    return Json{{"summary", control::encode(ours)},
                {"action", to_string(decision.action)},
                {"reason", decision.reason}};
}

Result<void> StandbyServer::carry_out(const std::string& what, const Json& request) {
    const auto session = control::id_field<SessionId>(request, "session");
    if (!session) {
        return Failure(session.error());
    }
    if (what == "session-begin") {
        const auto resync = control::bool_field(request, "resync");
        const auto step = control::step_field(request, "step");
        if (!resync || !step) {
            return Failure(resync ? step.error() : resync.error());
        }
        ++sessions_;
        return replica_->begin_session({*session, "alpha", *resync, *step});
    }
    if (what == "session-step") {
        const auto step = control::step_field(request, "step");
        return step ? replica_->take_step(*session, *step) : Failure(step.error());
    }
    if (what == "session-end") {
        const auto reason = control::string_field(request, "reason");
        return reason ? replica_->end_session(*session, *reason == "disconnect")
                      : Failure(reason.error());
    }
    if (what == "session-incomplete") {
        const auto lacking = control::uint_field(request, "lacking_bytes");
        const auto why = control::string_field(request, "why");
        return lacking && why ? replica_->session_incomplete(*session, *lacking, *why)
                              : Failure(lacking ? why.error() : lacking.error());
    }
    if (what == "verify-record") {
        return {};
    }
    const auto array = control::array_field(request, "lineage");
    if (!array) {
        return Failure(array.error());
    }
    const auto lineage = control::decode_lineage(**array);
    if (!lineage) {
        return Failure(lineage.error());
    }
    if (what == "session-synced") {
        const auto step = control::step_field(request, "step");
        return step ? replica_->session_synced(*session, *lineage, *step) : Failure(step.error());
    }
    if (what == "generation") {
        const auto confirmed = control::bool_field(request, "confirmed");
        return confirmed ? replica_->adopt_generation(*session, *lineage, *confirmed)
                         : Failure(confirmed.error());
    }
    return fail(ErrorKind::invalid, "no request '{}'", what);
}

}  // namespace mirror::test
