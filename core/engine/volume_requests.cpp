// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/volume_requests.hpp"

#include <exception>
#include <new>
#include <utility>

#include "core/base/log.hpp"

namespace mirror {
namespace {

using Verb = nbd::AsyncRequest::Verb;

/// What the loop's thread copies to or from the page cache itself: more would keep the others
/// waiting for too long.
constexpr std::uint64_t copied_here = 1 * MiB;

VolumeRequest& mine(nbd::AsyncRequest& request) noexcept {
    return static_cast<VolumeRequest&>(request);  // make_request() made it
}

Change change_of(const VolumeRequest& request) {
    const Durability durability = request.fua ? Durability::fua : Durability::cached;
    return request.verb == Verb::write
               ? Change{.range = request.range, .data = request.data, .durability = durability}
               : Change{.range = request.range, .space = request.space, .durability = durability};
}

}  // namespace

void VolumeRequests::Chain::add(VolumeRequest& request) noexcept {
    request.next_ = nullptr;
    (last_ != nullptr ? last_->next_ : first_) = &request;
    last_ = &request;
}

void VolumeRequests::Chain::add_all(Chain& others) noexcept {
    while (!others.empty()) {
        add(others.take_first());
    }
}

VolumeRequest& VolumeRequests::Chain::take_first() noexcept {
    VolumeRequest& first = *first_;
    first_ = first.next_;
    last_ = first_ != nullptr ? last_ : nullptr;
    return first;
}

void VolumeRequests::use_poll(int poll, void* mark) {
    poll_ = poll;
    mark_ = mark;
    if (poll < 0) {
        if (const auto session = borrowed_.lock()) {
            session->data().take_back();
        }
        borrowed_.reset();
    }
}

void VolumeRequests::receive() {
    if (auto session = borrowed_.lock()) {
        session->data().receive();
        let_go_of(std::move(session));
    }
}

void VolumeRequests::borrow(const std::shared_ptr<Session>& session) {
    const bool is_it = !borrowed_.owner_before(session) && !session.owner_before(borrowed_);
    if (!is_it && poll_ >= 0) {
        borrowed_ = session;
        session->data().lend(poll_, mark_);
    }
}

/// The last one to let go of a session waits for its threads, which is nothing for the loop's.
void VolumeRequests::let_go_of(std::shared_ptr<Session> session) {
    if (session->is_lost()) {
        pool_.run([kept = std::move(session)] {});
    }
}

std::unique_ptr<nbd::AsyncRequest> VolumeRequests::make_request() {
    return std::make_unique<VolumeRequest>();
}

bool VolumeRequests::read_at_once(std::span<std::byte> into, std::uint64_t offset) {
    if (into.size() > copied_here || !volume_.membership_.uses_local()) {
        return false;
    }
    const Gate::Pass pass = volume_.gate_.try_enter();
    if (!pass || !volume_.store_->read_cached(into, offset)) {
        return false;
    }
    volume_.quick_requests_.fetch_add(1, std::memory_order_relaxed);
    return true;
}

bool VolumeRequests::begin(nbd::AsyncRequest& request) {
    VolumeRequest& begun = mine(request);
    bool on_its_way = false;
    try {
        on_its_way = prepare(begun);
    } catch (const std::bad_alloc&) {
        let_go(begun);
        throw;
    }
    if (on_its_way) {
        send_legs(begun);
    }
    auto& counter = on_its_way ? volume_.quick_requests_ : volume_.pooled_requests_;
    counter.fetch_add(1, std::memory_order_relaxed);
    if (!on_its_way) {
        hand_to_pool(begun);
    }
    return false;
}

bool VolumeRequests::take_way(VolumeRequest& request) {
    // A large one may have to wait for its turn, which the loop must not.
    if (request.range.length > LargeWork::large || !volume_.membership_.uses_local()) {
        return false;
    }
    if (!request.pass_.emplace(volume_.gate_.try_enter())) {
        return false;
    }
    Underway& underway = request.underway_;
    // In the order of Volume::apply(), and for its reasons.
    auto range = volume_.ranges_.try_acquire(request.range);
    if (!range) {
        return false;
    }
    underway.range.emplace(std::move(*range));
    auto intent = volume_.differences_->try_enter(request.range);
    if (!intent) {
        return false;
    }
    underway.intent.emplace(std::move(*intent));
    auto parties = volume_.membership_.parties_at_once(request.range);
    if (!parties) {
        return false;
    }
    underway.parties = std::move(*parties);
    return true;
}

bool VolumeRequests::take_way_of_flush(VolumeRequest& request) {
    if (!request.pass_.emplace(volume_.gate_.try_enter())) {
        return false;
    }
    request.underway_.parties = volume_.membership_.parties();
    const Membership::Parties& parties = request.underway_.parties;
    return parties.session && parties.local;
}

bool VolumeRequests::prepare(VolumeRequest& request) {
    const bool changes = request.verb == Verb::write || request.verb == Verb::zero;
    const bool may_go = (changes && take_way(request)) ||
                        (request.verb == Verb::flush && take_way_of_flush(request));
    if (!may_go) {
        let_go(request);
        return false;
    }
    if (const auto& session = request.underway_.parties.session) {
        join_batch(session);
    }
    return true;
}

/// Whoever has a leg of the request has the request: from here on nobody may take it back, so that
/// a lack of memory here is the end of the process, after which the engine starts again.
void VolumeRequests::send_legs(VolumeRequest& request) noexcept {
    request.stage_ = VolumeRequest::Stage::legs;
    const auto& session = request.underway_.parties.session;
    request.legs_left_ = session ? 2 : 1;
    request.peer_ = {};
    const auto peer_done = [&request](Result<void> result) {
        request.peer_ = std::move(result);
        leg_done(request);
    };
    const bool is_flush = request.verb == Verb::flush;
    if (session && is_flush) {
        session->data().flush(peer_done);
    } else if (session) {
        Volume::send(session->data(), change_of(request), peer_done);
    }
    (is_flush ? unflushed_ : to_write_).add(request);
}

void VolumeRequests::join_batch(const std::shared_ptr<Session>& session) {
    if (batch_session_ == session) {
        return;
    }
    batch_.reset();
    borrow(session);
    batch_session_ = session;
    batch_.emplace(session->data());
}

bool VolumeRequests::end_batch(nbd::Turn& turn) {
    batch_.reset();
    batch_session_.reset();
    while (!to_write_.empty()) {
        VolumeRequest& request = to_write_.take_first();
        const bool at_once = request.verb == Verb::write && request.data.size() <= copied_here &&
                             !volume_.patience_ && !turn.is_slow();
        if (!at_once) {
            write_in_pool(request);
        } else if (!write_here(request, turn)) {
            return false;
        }
    }
    if (!unflushed_.empty()) {
        make_durable(std::exchange(unflushed_, Chain()));
    }
    return true;
}

/// False when it took so long that the loop is somebody else's now.
bool VolumeRequests::write_here(VolumeRequest& request, nbd::Turn& turn) {
    const std::uint64_t wait = turn.begin_wait();
    Result<void> written = volume_.store_->write(request.data, request.range.offset);
    // Before the request goes on: it is what keeps the loop from being taken down.
    const bool still_ours = turn.end_wait(wait);
    if (!written || !request.fua) {
        local_done(request, std::move(written));
    } else if (still_ours) {
        unflushed_.add(request);  // together with others of the batch
    } else {
        Chain alone;
        alone.add(request);
        make_durable(alone);
    }
    return still_ours;
}

void VolumeRequests::write_in_pool(VolumeRequest& request) {
    pool_.run([this, &request] { local_done(request, volume_.apply_locally(change_of(request))); });
}

void VolumeRequests::local_done(VolumeRequest& request, Result<void> result) {
    request.local_ = std::move(result);
    leg_done(request);
}

void VolumeRequests::leg_done(VolumeRequest& request) {
    if (request.legs_left_.fetch_sub(1) == 1) {
        request.ready();
    }
}

void VolumeRequests::make_durable(Chain requests) {
    MutexLock lock(flush_mutex_);
    waiting_for_flush_.add_all(requests);
    if (!std::exchange(flushing_, true)) {
        pool_.run([this] { flush_waiting(); });
    }
}

void VolumeRequests::flush_waiting() {
    while (true) {
        Chain served;
        {
            MutexLock lock(flush_mutex_);
            served = std::exchange(waiting_for_flush_, Chain());
            flushing_ = !served.empty();
            if (!flushing_) {
                return;
            }
        }
        const Result<void> flushed = volume_.store_->flush();
        while (!served.empty()) {
            local_done(served.take_first(), flushed);
        }
    }
}

bool VolumeRequests::is_clean(const VolumeRequest& request) const {
    const bool has_peer = request.underway_.parties.session != nullptr;
    if (!request.local_ || (has_peer && !request.peer_)) {
        return false;
    }
    return has_peer || volume_.membership_.alone_is_recorded();
}

bool VolumeRequests::go_on(nbd::AsyncRequest& request) {
    VolumeRequest& ready = mine(request);
    if (ready.stage_ == VolumeRequest::Stage::legs) {
        if (!is_clean(ready)) {
            ready.stage_ = VolumeRequest::Stage::settled;
            pool_.run([this, &ready] { settle(ready); });
            return false;
        }
        const auto& session = ready.underway_.parties.session;
        if (session && request.verb != Verb::flush) {
            volume_.differences_->clear_covered(request.range, [&] { return session->is_lost(); });
        }
        let_go(ready);
        return true;
    }
    if (!request.result) {
        note_failure(request.result.error());
    }
    return true;
}

void VolumeRequests::let_go(VolumeRequest& request) {
    request.underway_.let_go();
    request.pass_.reset();
}

void VolumeRequests::hand_to_pool(VolumeRequest& request) {
    request.stage_ = VolumeRequest::Stage::settled;
    pool_.run([this, &request] { perform(request); });
}

void VolumeRequests::perform(VolumeRequest& request) noexcept {
    const Durability durability = request.fua ? Durability::fua : Durability::cached;
    try {
        switch (request.verb) {
            case Verb::read:
                request.result = volume_.read(request.data, request.range.offset);
                break;
            case Verb::write:
                request.result = volume_.write(request.data, request.range.offset, durability);
                break;
            case Verb::zero:
                request.result = volume_.zero(request.range, request.space, durability);
                break;
            case Verb::flush:
                request.result = volume_.flush();
                break;
            case Verb::extents: {
                auto found = volume_.extents(request.range);
                request.result = found.map([](const auto&) {});
                request.extents = found ? std::move(*found) : std::vector<Extent>{};
                break;
            }
        }
    } catch (const std::exception& problem) {
        request.result = fail(ErrorKind::io, "volume {}: {}", volume_.name(), problem.what());
    }
    request.ready();
}

void VolumeRequests::settle(VolumeRequest& request) noexcept {
    try {
        request.result =
            request.verb == Verb::flush
                ? volume_.settle_flush(request.underway_.parties, request.local_, request.peer_)
                : volume_.settle(change_of(request), request.underway_, request.local_,
                                 request.peer_);
    } catch (const std::exception& problem) {
        request.result = fail(ErrorKind::io, "volume {}: {}", volume_.name(), problem.what());
    }
    // Here, since the last one to let go of a session waits for its threads.
    let_go(request);
    request.ready();
}

/// A client that was shut out may go on asking thousands of times a second; the log needs the
/// reason once.
void VolumeRequests::note_failure(const Error& error) {
    if (error.kind != ErrorKind::refused || !refusal_noted_.exchange(true)) {
        log(LogLevel::error, "{}", error.text());
    }
}

}  // namespace mirror
