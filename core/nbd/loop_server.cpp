// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/loop_server.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utility>

#include "core/base/log.hpp"
#include "core/nbd/breaker.hpp"
#include "core/nbd/transmission.hpp"

namespace mirror::nbd {
namespace {

/// Answers of large reads otherwise need many sends. An engine has no capability to have more than
/// net.core.wmem_max, which is what it gets then.
constexpr int send_buffer = 1 << 20;
/// For a client with a thread: to send the rest of a request, or to fetch an answer.
constexpr std::chrono::milliseconds stall_timeout{20000};

Result<void> watch_with(int poll, int operation, int fd, std::uint32_t events, void* whose) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = whose;
    return ::epoll_ctl(poll, operation, fd, &event) == 0 ? Result<void>()
                                                         : fail_errno(errno, "watching a socket");
}

}  // namespace

class LoopServer::Place final : public Admission {
  public:
    Place(LoopServer& server, const Client& client)
        : server_(server),
          most_(server.limits_.clients + (is_ours(client) ? server.limits_.kept_for_ours : 0)) {}
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() override {
        if (entered_) {
            Place::leave();
        }
    }
    /// The client came in: who takes it out again gives the place back.
    void keep() noexcept { entered_ = false; }

    bool enter(const tls::Proof* /*proof*/) override {
        MutexLock lock(server_.mutex_);
        if (server_.stopping_ || server_.open_ >= most_) {
            return false;
        }
        ++server_.open_;
        entered_ = true;
        return true;
    }
    void leave() noexcept override {
        MutexLock lock(server_.mutex_);
        --server_.open_;
        entered_ = false;
    }
    /// There is no TLS on a Unix socket.
    void failed_to_prove(const Client& /*client*/, const Error& /*error*/) override {}
    /// Nobody ends a client of the loop from outside but the server itself.
    std::function<void()> shutdown() override {
        return [] {};
    }

  private:
    LoopServer& server_;
    const std::size_t most_;
    bool entered_ = false;
};

LoopServer::LoopServer(ExportProvider& provider, AsyncExport& exported, WorkerPool& pool,
                       Limits limits)
    : provider_(provider),
      export_(exported),
      pool_(pool),
      limits_(limits),
      turn_([this] { pool_.run([this] { lead(); }); }),
      poll_(::epoll_create1(EPOLL_CLOEXEC)),
      stock_(exported, ready_) {}

LoopServer::~LoopServer() {
    stop();
}

Result<void> LoopServer::listen(const std::string& path) {
    if (!poll_.is_open() || ready_.bell() < 0) {
        return fail(ErrorKind::internal, "{}: no descriptors for its events", path);
    }
    constexpr unsigned for_owner = 0600;
    auto listener = Listener::on_unix(path, for_owner, {});
    if (!listener) {
        return Failure(listener.error());
    }
    listener_.emplace(std::move(*listener));
    return {};
}

Result<void> LoopServer::start() {
    auto watched =
        watch_with(poll_.get(), EPOLL_CTL_ADD, ready_.bell(), EPOLLIN | EPOLLET, nullptr);
    if (watched) {
        watched = watch_with(poll_.get(), EPOLL_CTL_ADD, listener_->fd(), EPOLLIN, &listener_);
    }
    if (!watched) {
        return watched;
    }
    spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (auto started = turn_.start(); !started) {
        return started;
    }
    MutexLock lock(mutex_);
    running_ = true;
    lock.unlock();
    export_.use_poll(poll_.get(), &export_);
    pool_.run([this] { lead(); });
    return {};
}

void LoopServer::stop() {
    {
        MutexLock lock(mutex_);
        stopping_ = true;
        for (const auto* sockets : {&handshaking_, &served_here_}) {
            for (const int socket : *sockets) {
                ::shutdown(socket, SHUT_RDWR);
            }
        }
    }
    ready_.ring();
    MutexLock lock(mutex_);
    while (running_ || !handshaking_.empty() || !served_here_.empty()) {
        changed_.wait(lock);
    }
    newcomers_.clear();
    lock.unlock();
    turn_.stop();
    listener_.reset();
}

void LoopServer::lead() noexcept {
    while (run_once()) {
    }
}

/// False when the loop is over, or somebody else's.
bool LoopServer::run_once() {
    // First of all: whoever takes over begins here, and finds everything else as it was left.
    if (!export_.end_batch(turn_)) {
        return false;
    }
    take_ready();
    take_newcomers();
    const bool begun = settle_clients();
    if (is_over()) {
        return false;
    }
    wait_for_events(begun);
    return true;
}

void LoopServer::wait_for_events(bool only_look) {
    std::array<epoll_event, 64> events{};
    const int timeout = only_look || !ready_.may_sleep() ? 0 : -1;
    const int count =
        ::epoll_wait(poll_.get(), events.data(), static_cast<int>(events.size()), timeout);
    ready_.wake();
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events.at(static_cast<std::size_t>(i));
        if (event.data.ptr == &listener_) {
            accept_one();
        } else if (event.data.ptr == &export_) {
            export_.receive();
        } else if (event.data.ptr != nullptr) {
            handle(*static_cast<LoopClient*>(event.data.ptr), event.events);
        }
    }
}

void LoopServer::take_ready() {
    AsyncRequest* next = ready_.take_all();
    while (next != nullptr) {
        AsyncRequest& request = *next;
        next = ReadyQueue::after(request);  // first: it may be in use again below
        if (export_.go_on(request)) {
            LoopClient& client = LoopClient::client_of(request);
            client.answer(request);
            touch(client);
        }
    }
}

void LoopServer::take_newcomers() {
    std::list<Newcomer> newcomers;
    {
        MutexLock lock(mutex_);
        newcomers.swap(newcomers_);
    }
    for (Newcomer& newcomer : newcomers) {
        try {
            add(std::move(newcomer));
        } catch (const std::exception&) {  // no memory for it
            MutexLock lock(mutex_);
            --open_;
        }
    }
}

void LoopServer::add(Newcomer newcomer) {
    (void)::setsockopt(newcomer.socket.get(), SOL_SOCKET, SO_SNDBUF, &send_buffer,
                       sizeof send_buffer);
    clients_.emplace_back(std::move(newcomer.socket), std::move(newcomer.negotiated), export_,
                          stock_, limits_.unsent);
    if (ending_) {
        clients_.back().end();
    }
    touched_.reserve(clients_.size());  // so that touch() never has to
    touch(clients_.back());
}

void LoopServer::accept_one() noexcept {
    Fd socket(::accept4(listener_->fd(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.is_open()) {
        if (errno == EMFILE || errno == ENFILE) {
            turn_away();
        }
        return;
    }
    const int fd = socket.get();
    try {
        const std::size_t most =
            limits_.handshaking + (is_ours(identify(fd)) ? limits_.kept_for_ours : 0);
        {
            MutexLock lock(mutex_);
            if (stopping_ || handshaking_.size() >= most) {
                return;  // the newest one makes way: the others were here before
            }
            handshaking_.push_back(fd);
        }
        pool_.run([this, fd] { shake_hands(Fd(fd)); });  // a job must be copyable
        (void)socket.release();
    } catch (const std::exception&) {
        MutexLock lock(mutex_);
        handshaking_.remove(fd);
    }
}

/// Out of descriptors: the newcomer would stay in the kernel's queue, and be reported again and
/// again. One that was kept for this lets him in, and out.
void LoopServer::turn_away() noexcept {
    spare_.reset();
    const Fd socket(::accept4(listener_->fd(), nullptr, nullptr, SOCK_CLOEXEC));
    spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

void LoopServer::shake_hands(Fd socket) noexcept {
    const int number = socket.get();
    std::list<Newcomer> outcome;
    try {
        outcome = negotiate(socket);
    } catch (const std::exception& problem) {
        log(LogLevel::warning, "a handshake failed: {}", problem.what());
    }
    MutexLock lock(mutex_);
    handshaking_.remove(number);
    served_here_.remove(number);
    newcomers_.splice(newcomers_.end(), outcome);
    changed_.notify_all();
    // Under the mutex: who stops the server may be waiting for this to be the last handshake.
    ready_.ring();
}

/// On a copy of the descriptor, since a Stream closes its own.
std::list<LoopServer::Newcomer> LoopServer::negotiate(Fd& socket) {
    const Client client = identify(socket.get());
    Place place(*this, client);
    SocketStream stream(Fd(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0)));
    auto negotiated =
        Handshake(stream, provider_, place, client, nullptr, limits_.handshake_timeout).run();
    std::list<Newcomer> outcome;
    if (negotiated && negotiated->exported->wants_thread()) {
        serve_here(stream, socket.get(), *negotiated);
    } else if (negotiated) {
        outcome.push_back({std::move(socket), std::move(*negotiated)});
        place.keep();
    }
    return outcome;
}

/// How a client leaves is its own affair.
void LoopServer::serve_here(Stream& stream, int socket, const Negotiated& negotiated) {
    {
        MutexLock lock(mutex_);
        if (stopping_) {
            return;  // the sockets to be shut have been shut
        }
        // From one list to the other: it takes no newcomer's place any more.
        served_here_.push_back(socket);
        handshaking_.remove(socket);
    }
    Breaker breaker(stream);
    (void)Transmission(stream, negotiated, breaker, stall_timeout).run();
    breaker.disarm();
}

void LoopServer::handle(LoopClient& client, std::uint32_t events) noexcept {
    try {
        if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0) {
            client.note_hang_up();
        } else if ((events & EPOLLIN) != 0) {
            client.receive();
        }
    } catch (const std::exception&) {
        client.note_hang_up();  // most likely out of memory: this connection ends
    }
    touch(client);
}

void LoopServer::touch(LoopClient& client) {
    if (!client.is_touched) {
        client.is_touched = true;
        touched_.push_back(&client);
    }
}

/// Whether something was begun, which end_batch() must hear of before the loop sleeps. Who began
/// something stays touched: its turn comes again after the others'.
bool LoopServer::settle_clients() {
    std::size_t again = 0;
    for (LoopClient* client : touched_) {
        if (settle(*client)) {
            client->is_touched = true;
            touched_[again++] = client;
        }
    }
    touched_.resize(again);
    return again != 0;
}

/// False when it is gone, too: nothing of it is under way then.
bool LoopServer::settle(LoopClient& client) noexcept {
    bool begun = false;
    try {
        begun = client.settle();
    } catch (const std::exception&) {
        client.note_hang_up();
    }
    watch(client);
    if (!client.is_done()) {
        return begun;
    }
    const auto it = std::find_if(clients_.begin(), clients_.end(),
                                 [&](const LoopClient& other) { return &other == &client; });
    clients_.erase(it);
    MutexLock lock(mutex_);
    --open_;
    return false;
}

/// Without anything to wait for it is not watched at all: a hang-up is reported in any case, again
/// and again.
void LoopServer::watch(LoopClient& client) {
    const std::uint32_t wanted = client.wanted_events();
    const std::uint32_t before = std::exchange(client.watched_events, wanted);
    if (wanted == before) {
        return;
    }
    const int operation = before == 0 ? EPOLL_CTL_ADD : wanted == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (!watch_with(poll_.get(), operation, client.socket(), wanted, &client)) {
        client.watched_events = 0;
        client.note_hang_up();
    }
}

bool LoopServer::is_over() {
    {
        MutexLock lock(mutex_);
        if (!stopping_) {
            return false;
        }
    }
    if (!std::exchange(ending_, true)) {
        end_all();
    }
    MutexLock lock(mutex_);
    if (!clients_.empty() || !handshaking_.empty() || !served_here_.empty() ||
        !newcomers_.empty()) {
        return false;
    }
    lock.unlock();
    export_.use_poll(-1, nullptr);
    lock.lock();
    running_ = false;
    changed_.notify_all();
    return true;
}

void LoopServer::end_all() {
    listener_->retire();
    for (LoopClient& client : clients_) {
        client.end();
        touch(client);
    }
    (void)settle_clients();
}

}  // namespace mirror::nbd
