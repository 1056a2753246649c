// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/server.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <list>
#include <new>
#include <poll.h>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "core/base/fd.hpp"
#include "core/base/start_thread.hpp"
#include "core/base/sync.hpp"
#include "core/nbd/connection.hpp"
#include "core/nbd/listener.hpp"
#include "core/nbd/look_up.hpp"

namespace mirror::nbd {
namespace {

/// How long a newcomer waits for the place of the connection that is dropped for it.
constexpr std::chrono::milliseconds eviction_timeout{1000};
/// How long accepting rests when the process is out of descriptors or memory.
constexpr std::chrono::milliseconds accept_pause{100};

enum class Phase { handshaking, open };

/// Those who share one set of places.
struct Crowd {
    std::size_t handshaking = 0;
    std::size_t open = 0;
};

/// Without the port.
std::string_view host_of(const Client& client) noexcept {
    return std::string_view(client.address).substr(0, client.address.rfind(':'));
}

bool is_passing(int accept_error) noexcept {
    return accept_error == EAGAIN || accept_error == EWOULDBLOCK || accept_error == EINTR ||
           accept_error == ECONNABORTED || accept_error == EPROTO;
}

}  // namespace

struct Server::Impl {
    /// A connection and its thread; lives in `entries` until the thread takes it out as its last
    /// act.
    struct Entry final : Admission {
        Entry(Impl& impl, Fd socket, bool is_local)
            : server(impl),
              local(is_local),
              connection(std::move(socket), impl.limits, is_local ? nullptr : impl.tls.get()) {}

        bool enter(const tls::Proof* shown) override { return server.enter_open(*this, shown); }
        void leave() noexcept override { server.leave_open(*this); }
        void failed_to_prove(const Client& client, const Error& error) override {
            if (server.on_stranger) {
                server.on_stranger(client, error);
            }
        }
        std::function<void()> shutdown() override {
            return [breaker = connection.breaker()] { breaker->trip(); };
        }

        Impl& server;
        /// Root's, or of the user that we are: nobody else is to keep them out.
        [[nodiscard]] bool is_ours() const noexcept {
            const auto& uid = connection.client().uid;
            return local && uid && (*uid == 0 || *uid == server.user);
        }

        const bool local;
        Connection connection;
        Thread thread;  // guarded by server.mutex, as the next two
        Phase phase = Phase::handshaking;
        bool dropped = false;
        tls::Proof proof{};  ///< while an export is open
    };
    using Entries = std::list<Entry>;  // in the order of arrival

    Impl(ExportProvider& exports, ServerLimits server_limits,
         std::shared_ptr<const tls::Credentials> credentials)
        : provider(exports),
          limits(server_limits),
          tls(std::move(credentials)),
          stop_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        limits.handshaking = std::max<std::size_t>(limits.handshaking, 1);
    }

    [[nodiscard]] Result<void> add_listener(Listener listener);
    void accept_loop(int listener, bool local) noexcept;
    [[nodiscard]] bool wait_for_stop(int listener, std::chrono::milliseconds most) const noexcept;
    void admit(Fd socket, bool local) noexcept;
    [[nodiscard]] bool start_connection(Fd socket, bool local) REQUIRES(mutex);
    [[nodiscard]] Crowd& crowd(bool local) noexcept REQUIRES(mutex) {
        return local ? local_crowd : network_crowd;
    }
    [[nodiscard]] bool make_room(MutexLock& lock, bool local) REQUIRES(mutex);
    [[nodiscard]] bool drop_a_stranger(bool local) noexcept REQUIRES(mutex);
    /// Whether that one has no place left: a local user, or a peer.
    [[nodiscard]] bool is_full_for(const Entry& entry, const tls::Proof* proof) noexcept
        REQUIRES(mutex);
    /// Connections from there, without those that are being dropped.
    [[nodiscard]] std::size_t count_of(std::string_view host, Phase phase) const noexcept
        REQUIRES(mutex);
    /// Exports that a node which has proved who it is has open, from wherever.
    [[nodiscard]] std::size_t count_of_node(const std::string& node) const noexcept REQUIRES(mutex);
    void run_connection(Entries::iterator self) noexcept;
    [[nodiscard]] bool enter_open(Entry& entry, const tls::Proof* proof);
    void leave_open(Entry& entry) noexcept;
    void stop();

    ExportProvider& provider;
    ServerLimits limits;
    const uid_t user = ::geteuid();
    const std::shared_ptr<const tls::Credentials> tls;
    Fd stop_event;
    std::function<void(const Client&, const Error&)> on_stranger;  ///< set before listening

    // The starter's own; the accept threads know only the descriptors.
    std::vector<Listener> listeners;
    std::vector<Thread> accept_threads;

    mutable Mutex mutex;
    CondVar changed;  ///< a handshake ended or a connection is gone
    Entries entries GUARDED_BY(mutex);
    Counters counters GUARDED_BY(mutex);
    Crowd network_crowd GUARDED_BY(mutex);
    Crowd local_crowd GUARDED_BY(mutex);
    bool stopping GUARDED_BY(mutex) = false;
    /// A thread cannot join itself: each ending one joins its predecessor and leaves itself here.
    Thread last_ended GUARDED_BY(mutex);
};

Result<void> Server::Impl::add_listener(Listener listener) {
    if (!stop_event.is_open()) {
        return fail(ErrorKind::internal, "no event descriptor for the NBD server");
    }
    if (MutexLock lock(mutex); stopping) {
        return fail(ErrorKind::internal, "the NBD server has been stopped");
    }
    const int fd = listener.fd();
    const bool local = listener.port() == 0;
    listeners.push_back(std::move(listener));
    auto started = start_thread("accept", [this, fd, local] { accept_loop(fd, local); });
    if (!started) {
        listeners.pop_back();
        return Failure(started.error());
    }
    accept_threads.push_back(std::move(*started));
    return {};
}

/// True when the server stops; false when the listener has something, or time is up. The listener
/// may be -1.
bool Server::Impl::wait_for_stop(int listener, std::chrono::milliseconds most) const noexcept {
    pollfd watched[] = {{.fd = stop_event.get(), .events = POLLIN, .revents = 0},
                        {.fd = listener, .events = POLLIN, .revents = 0}};
    ::poll(watched, 2, static_cast<int>(most.count()));
    return watched[0].revents != 0;
}

void Server::Impl::accept_loop(int listener, bool local) noexcept {
    while (!wait_for_stop(listener, std::chrono::milliseconds(-1))) {
        Fd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        if (socket.is_open()) {
            admit(std::move(socket), local);
        } else if (!is_passing(errno)) {
            // Out of descriptors or memory: the newcomer stays in the kernel's queue, poll() would
            // report it at once again. A stranger makes way, and then it is tried again.
            {
                MutexLock lock(mutex);
                if (!drop_a_stranger(false)) {
                    (void)drop_a_stranger(true);
                }
            }
            if (wait_for_stop(-1, accept_pause)) {
                return;
            }
        }
    }
}

void Server::Impl::admit(Fd socket, bool local) noexcept {
    MutexLock lock(mutex);
    ++counters.accepted;
    try {
        const bool full = crowd(local).handshaking >= limits.handshaking;
        if (stopping || (full && !make_room(lock, local))) {
            ++counters.dropped;
            return;
        }
        if (!start_connection(std::move(socket), local)) {
            ++counters.dropped;  // no thread
        }
    } catch (const std::exception&) {  // no memory
        ++counters.dropped;
    }
}

bool Server::Impl::start_connection(Fd socket, bool local) {
    const auto self = entries.emplace(entries.end(), *this, std::move(socket), local);
    if (!start_thread(self->thread, "client", [this, self] { run_connection(self); })) {
        entries.erase(self);
        return false;
    }
    ++crowd(local).handshaking;
    return true;
}

/// Waits for the dropped one's thread: only so the limit also holds for threads and memory.
bool Server::Impl::make_room(MutexLock& lock, bool local) {
    (void)drop_a_stranger(local);
    const auto deadline = std::chrono::steady_clock::now() + eviction_timeout;
    while (crowd(local).handshaking >= limits.handshaking) {
        if (changed.wait_until(lock, deadline) == std::cv_status::timeout) {
            return false;
        }
    }
    return !stopping;
}

/// The oldest of the address that has most of them: whoever floods makes way for himself, and for
/// a peer at another address. One of ours only where there is nobody else.
/// Allocates nothing: it is also called when there is no memory.
bool Server::Impl::drop_a_stranger(bool local) noexcept {
    const auto is_waiting = [local](const Entry& entry) {
        return entry.local == local && entry.phase == Phase::handshaking && !entry.dropped;
    };
    const bool others = std::any_of(entries.begin(), entries.end(), [&](const Entry& entry) {
        return is_waiting(entry) && !entry.is_ours();
    });
    const auto may_go = [&](const Entry& entry) {
        return is_waiting(entry) && !(others && entry.is_ours());
    };
    auto chosen = entries.end();
    std::size_t most = 0;
    for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
        const std::size_t count =
            may_go(*entry) ? count_of(host_of(entry->connection.client()), entry->phase) : 0;
        if (count > most) {
            most = count;
            chosen = entry;
        }
    }
    if (chosen == entries.end()) {
        return false;
    }
    chosen->dropped = true;
    ++counters.dropped;
    chosen->connection.breaker()->trip();
    return true;
}

void Server::Impl::run_connection(Entries::iterator self) noexcept {
    self->connection.run(provider, *self);
    Thread predecessor;
    {
        MutexLock lock(mutex);
        predecessor = std::exchange(last_ended, std::move(self->thread));
    }
    // Before this one is counted as gone: ending threads cannot pile up behind the limits.
    if (predecessor.joinable()) {
        predecessor.join();
    }
    MutexLock lock(mutex);
    Crowd& mine = crowd(self->local);
    --(self->phase == Phase::open ? mine.open : mine.handshaking);
    entries.erase(self);
    changed.notify_all();
}

bool Server::Impl::enter_open(Entry& entry, const tls::Proof* proof) {
    MutexLock lock(mutex);
    Crowd& mine = crowd(entry.local);
    if (is_full_for(entry, proof) || entry.dropped || stopping) {
        return false;
    }
    entry.phase = Phase::open;
    entry.proof = proof != nullptr ? *proof : tls::Proof();
    ++mine.open;
    --mine.handshaking;
    changed.notify_all();
    return true;
}

bool Server::Impl::is_full_for(const Entry& entry, const tls::Proof* proof) noexcept {
    if (entry.local) {
        return local_crowd.open >= limits.open + (entry.is_ours() ? limits.kept_for_root : 0);
    }
    const bool is_known = proof != nullptr && !proof->node.empty();
    const std::size_t taken = is_known ? count_of_node(proof->node)
                                       : count_of(host_of(entry.connection.client()), Phase::open);
    return network_crowd.open >= limits.open || taken >= limits.open_of_one_peer;
}

std::size_t Server::Impl::count_of_node(const std::string& node) const noexcept {
    return static_cast<std::size_t>(
        std::count_if(entries.begin(), entries.end(), [&](const Entry& entry) {
            return entry.phase == Phase::open && !entry.dropped && entry.proof.node == node;
        }));
}

std::size_t Server::Impl::count_of(std::string_view host, Phase phase) const noexcept {
    const auto is_one = [host, phase](const Entry& entry) {
        return entry.phase == phase && !entry.dropped && host_of(entry.connection.client()) == host;
    };
    return static_cast<std::size_t>(std::count_if(entries.begin(), entries.end(), is_one));
}

void Server::Impl::leave_open(Entry& entry) noexcept {
    MutexLock lock(mutex);
    Crowd& mine = crowd(entry.local);
    entry.phase = Phase::handshaking;
    --mine.open;
    ++mine.handshaking;
}

void Server::Impl::stop() {
    {
        MutexLock lock(mutex);
        stopping = true;
    }
    ::eventfd_write(stop_event.get(), 1);
    for (Thread& thread : accept_threads) {
        thread.join();
    }
    accept_threads.clear();
    for (Listener& listener : listeners) {
        listener.retire();
    }

    MutexLock lock(mutex);
    for (const Entry& entry : entries) {
        entry.connection.breaker()->trip();
    }
    while (!entries.empty()) {
        changed.wait(lock);
    }
    Thread last = std::move(last_ended);
    lock.unlock();
    if (last.joinable()) {
        last.join();
    }
    listeners.clear();
}

Server::Server(ExportProvider& provider, ServerLimits limits,
               std::shared_ptr<const tls::Credentials> tls)
    : impl_(std::make_unique<Impl>(provider, limits, std::move(tls))) {}

Server::~Server() {
    stop();
}

Result<std::uint16_t> Server::listen_tcp(const Endpoint& endpoint) {
    return look_up(endpoint.host)
        .and_then([&](const std::vector<std::string>& numbers) {
            return listen_on(numbers, endpoint.port);
        })
        .map([](const Listening& listening) { return listening.bound.front().port; });
}

Result<Server::Listening> Server::listen_on(const std::vector<std::string>& numbers,
                                            std::uint16_t port) {
    const auto family = numbers.size() > 1 ? Listener::Family::own : Listener::Family::any;
    Listening result;
    std::vector<Listener> listeners;
    for (const std::string& number : numbers) {
        Result<Listener> listener = Listener::on_tcp({number, port}, family);
        if (!listener && listener.error().os_error == EADDRINUSE) {
            return Failure(listener.error());
        }
        if (!listener) {
            result.failed.push_back(listener.error());
            continue;
        }
        port = listener->port();
        result.bound.push_back({number, port});
        listeners.push_back(std::move(*listener));
    }
    if (listeners.empty()) {
        return Failure(result.failed.front());
    }
    for (Listener& listener : listeners) {
        if (Result<void> added = impl_->add_listener(std::move(listener)); !added) {
            return Failure(added.error());
        }
    }
    return result;
}

Result<void> Server::listen_unix(const std::string& path, unsigned mode,
                                 std::optional<gid_t> group) {
    Result<Listener> listener = Listener::on_unix(path, mode, group);
    if (!listener) {
        return Failure(listener.error());
    }
    return impl_->add_listener(std::move(*listener));
}

void Server::stop() {
    impl_->stop();
}

void Server::on_stranger(std::function<void(const Client&, const Error&)> callback) {
    impl_->on_stranger = std::move(callback);
}

void Server::end_connections_of(const std::function<bool(const tls::Proof&)>& is_meant) {
    MutexLock lock(impl_->mutex);
    for (const auto& entry : impl_->entries) {
        if (!entry.local && entry.phase == Phase::open && is_meant(entry.proof)) {
            entry.connection.breaker()->trip();
        }
    }
}

void Server::set_limits(const ServerLimits& limits) {
    MutexLock lock(impl_->mutex);
    impl_->limits.open = limits.open;
    impl_->limits.open_of_one_peer = limits.open_of_one_peer;
    impl_->limits.stall_timeout = limits.stall_timeout;
}

std::vector<Server::Guest> Server::guests() const {
    std::vector<Guest> guests;
    MutexLock lock(impl_->mutex);
    for (const auto& entry : impl_->entries) {
        if (!entry.local && entry.phase == Phase::open) {
            guests.push_back({entry.connection.client().address, entry.proof});
        }
    }
    return guests;
}

Server::Counters Server::counters() const {
    MutexLock lock(impl_->mutex);
    Counters counters = impl_->counters;
    counters.handshaking = impl_->network_crowd.handshaking + impl_->local_crowd.handshaking;
    counters.open = impl_->network_crowd.open + impl_->local_crowd.open;
    return counters;
}

}  // namespace mirror::nbd
