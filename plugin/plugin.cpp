// SPDX-License-Identifier: BSD-3-Clause
// nbdkit's callbacks around the engine: configuration, life cycle, one call a request. Everything
// that can be refused is refused in get_ready, before nbdkit serves (or forks), where the error
// still reaches whoever started it; threads start in after_fork (nbdkit-plugin(3)).
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <memory>
#include <signal.h>
#include <string>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/fd.hpp"
#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/base/memory_lock.hpp"
#include "core/base/privileges.hpp"
#include "core/base/put_file.hpp"
#include "core/base/socket_access.hpp"
#include "core/base/stderr_relay.hpp"
#include "core/config/this_node.hpp"
#include "core/control/mailbox.hpp"
#include "core/engine/client_places.hpp"
#include "core/engine/express_door.hpp"
#include "core/engine/volume.hpp"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace {

using namespace mirror;

/// Each client's requests have 64 threads of nbdkit's, and a buffer each of up to 32 MiB: who may
/// only do I/O must not take all of the machine's.
constexpr int most_clients_of_others = 16;

/// One nbdkit process serves one volume; nbdkit gives its callbacks no other place for it.
struct Process {
    std::unique_ptr<StderrRelay> relay;  ///< goes last
    Volume::Options options;
    std::string error_file;  ///< where mirrord looks for the reason of a failed start
    std::unique_ptr<Volume> volume;
    /// Of the sockets' files: who has lost their names still reaches them through /proc
    /// (daemon/engine_files.hpp).
    std::vector<Fd> holds;
    std::unique_ptr<ExpressDoor> express;  ///< goes before the volume does
    ClientPlaces places_of_others{most_clients_of_others};
};

Process& process() {
    static Process instance;
    return instance;
}

/// One client's connection: to the volume, or to its control mailbox.
class Connection {
  public:
    Connection(Volume& volume, std::unique_ptr<control::Mailbox> mailbox,
               ClientPlaces::Place place = {})
        : place_(std::move(place)), volume_(volume), mailbox_(std::move(mailbox)) {
        if (!mailbox_) {
            volume_.client_opened();
        }
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() {
        if (!mailbox_) {
            volume_.client_closed();
        }
    }

    [[nodiscard]] Volume& volume() const noexcept { return volume_; }
    [[nodiscard]] control::Mailbox* mailbox() const noexcept { return mailbox_.get(); }

    /// Whether this is the connection's first refusal. A client that was shut out may go on asking
    /// thousands of times a second; the log needs the reason once.
    [[nodiscard]] bool first_refusal() noexcept { return !refused_.exchange(true); }

  private:
    std::atomic<bool> refused_{false};
    ClientPlaces::Place place_;
    Volume& volume_;
    std::unique_ptr<control::Mailbox> mailbox_;
};

int report(Connection& client, const Error& error) noexcept {
    const bool refused = error.kind == ErrorKind::refused;
    if (!refused || client.first_refusal()) {
        nbdkit_error("%s", error.text().c_str());
    }
    nbdkit_set_error(refused ? ESHUTDOWN : errno_of(error));
    return -1;
}

int answer(void* handle, const Result<void>& result) noexcept {
    return result ? 0 : report(*static_cast<Connection*>(handle), result.error());
}

/// Runs a callback's body: no exception may reach nbdkit.
template <typename Body, typename Failed = int>
auto guarded(Body body, Failed failed = -1) noexcept -> decltype(body()) {
    try {
        return body();
    } catch (const std::exception& problem) {
        nbdkit_error("%s", problem.what());
        nbdkit_set_error(ENOMEM);
        return failed;
    }
}

Connection& connection(void* handle) noexcept {
    return *static_cast<Connection*>(handle);
}

std::span<std::byte> bytes(void* buffer, std::uint32_t count) noexcept {
    return {static_cast<std::byte*>(buffer), count};
}
std::span<const std::byte> bytes(const void* buffer, std::uint32_t count) noexcept {
    return {static_cast<const std::byte*>(buffer), count};
}

Durability durability(std::uint32_t flags) noexcept {
    return (flags & NBDKIT_FLAG_FUA) != 0 ? Durability::fua : Durability::cached;
}

// Life cycle.

/// nbdkit's threads write to stderr, too, with a lock held, before they answer a client.
void mirror_load() noexcept {
    (void)guarded([] {
        process().relay = std::make_unique<StderrRelay>();
        return 0;
    });
}

int mirror_config(const char* key, const char* value) noexcept {
    return guarded([&] {
        const std::string name = key;
        if (name == "volume") {
            process().options.volume = value;
        } else if (name == "node") {
            process().options.node = value;
        } else if (name == "config" || name == "error_file") {
            char* absolute = nbdkit_absolute_path(value);  // nbdkit changes directory later
            if (absolute == nullptr) {
                return -1;
            }
            (name == "config" ? process().options.config_path : process().error_file) = absolute;
            std::free(absolute);
        } else {
            nbdkit_error("unknown parameter '%s'; known are volume, node, config and error_file",
                         key);
            return -1;
        }
        return 0;
    });
}

int refuse_start(const Error& error) noexcept {
    if (!process().error_file.empty()) {
        (void)put_file(process().error_file, error.text() + "\n", 0644);
    }
    nbdkit_error("%s", error.text().c_str());
    return -1;
}

/// For an engine that is started by hand.
int choose_node(Volume::Options& options) {
    const auto config = load_config(options.config_path);
    if (!config) {
        return refuse_start(config.error());
    }
    const auto node = this_node(*config, "");
    if (!node) {
        return refuse_start(node.error());
    }
    options.node = (*node)->name;
    return 0;
}

int mirror_config_complete() noexcept {
    return guarded([] {
        Volume::Options& options = process().options;
        if (options.volume.empty()) {
            nbdkit_error("volume=NAME is missing");
            return -1;
        }
        // The socket that nbdkit makes: its owner's alone until after_fork.
        (void)::umask(S_IWGRP | S_IWOTH);
        options.config_path = config_path(options.config_path);
        return options.node.empty() ? choose_node(options) : 0;
    });
}

int mirror_get_ready() noexcept {
    return guarded([] {
        auto volume = Volume::open(process().options);
        if (!volume) {
            return refuse_start(volume.error());
        }
        process().volume = std::move(*volume);
        return 0;
    });
}

/// Not a reason to refuse to serve: who may connect now is fewer than who should, and a kernel
/// device, whose mirrord is the owner, needs no group.
void open_socket(const std::string& socket) {
    const Volume& volume = *process().volume;
    if (const auto opened = open_socket_to(socket, volume.io_group()); !opened) {
        log(LogLevel::error, "{}: {} remains accessible to its owner only: {}", volume.name(),
            socket, opened.error().text());
    }
}

void hold(const std::string& socket) {
    Fd file(::open(socket.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (file.is_open()) {
        process().holds.push_back(std::move(file));
    }
}

Result<void> open_doors() {
    Volume& volume = *process().volume;
    if (::access(volume.socket().c_str(), F_OK) == 0) {  // else started by hand, with another one
        open_socket(volume.socket());
    }
    auto express = ExpressDoor::open(volume, volume.express_socket());
    if (!express) {
        return Failure(express.error());
    }
    open_socket(volume.express_socket());
    hold(volume.socket());
    hold(volume.express_socket());
    process().express = std::move(*express);
    return {};
}

Result<void> start_engine() {
    const std::string who = fmt::format("the engine of {}", process().volume->name());
    stand_memory_pressure(who);
    if (auto opened = open_doors(); !opened) {
        return opened;
    }
    give_up_privileges(who);
    give_up_writing_elsewhere(who, process().volume->written_folders());
    process().relay->start();
    if (auto started = process().volume->start(); !started) {
        return started;
    }
    return process().express->serve();
}

int mirror_after_fork() noexcept {
    return guarded([] {
        // nbdkit in the foreground asks the kernel to end it with its parent (and "parent" is the
        // thread that started it); an engine must outlive mirrord.
        (void)::prctl(PR_SET_PDEATHSIG, 0);
        // nbdkit would end for it, and cut off every client, when somebody sends one to all
        // processes of the service.
        for (const int harmless : {SIGHUP, SIGUSR1, SIGUSR2}) {
            (void)::signal(harmless, SIG_IGN);
        }
        auto started = start_engine();
        return started ? 0 : refuse_start(started.error());
    });
}

void mirror_cleanup() noexcept {
    process().express.reset();
    process().volume.reset();
    process().relay.reset();
}

// Connections.

int mirror_list_exports(int /*readonly*/, int /*is_tls*/, nbdkit_exports* exports) noexcept {
    return guarded([&] {
        if (nbdkit_add_export(exports, process().volume->name().c_str(), "the volume") == -1) {
            return -1;
        }
        return nbdkit_add_export(exports, control::mailbox_export, "control requests (root)");
    });
}

const char* mirror_default_export(int /*readonly*/, int /*is_tls*/) noexcept {
    return process().volume->name().c_str();
}

/// Whether the client may control: root, or the user the engine runs as.
bool may_control() noexcept {
    const int64_t uid = nbdkit_peer_uid();
    return uid == 0 || (uid >= 0 && static_cast<uid_t>(uid) == geteuid());
}

/// In .open, before nbdkit starts the connection's threads.
Connection* open_volume(Volume& volume) {
    if (may_control()) {
        return new Connection(volume, nullptr);
    }
    ClientPlaces& places = process().places_of_others;
    auto place = places.take();
    if (place.is_taken()) {
        return new Connection(volume, nullptr, std::move(place));
    }
    if (places.first_refusal()) {
        log(LogLevel::warning,
            "volume {}: {} clients of users other than root and the engine's are connected to the "
            "plain socket, and no more are accepted: close some, or use {}",
            volume.name(), most_clients_of_others, volume.express_socket());
    }
    nbdkit_set_error(EBUSY);
    return nullptr;
}

Connection* open_connection() {
    Volume& volume = *process().volume;
    const char* given = nbdkit_export_name();
    const std::string name = given != nullptr ? given : "";
    if (name.empty() || name == volume.name()) {
        return open_volume(volume);
    }
    if (name != control::mailbox_export) {
        nbdkit_error("no export '%s' here; this is volume '%s'", name.c_str(),
                     volume.name().c_str());
        return nullptr;
    }
    if (!may_control()) {
        nbdkit_error("the control export is for root");
        nbdkit_set_error(EPERM);
        return nullptr;
    }
    auto handler = [&volume](const control::Json& request, const nbd::Client&) {
        return volume.handle(request);
    };
    return new Connection(
        volume, std::make_unique<control::Mailbox>(handler, nbd::Client{.address = "unix"}));
}

void* mirror_open(int /*readonly*/) noexcept {
    return guarded(open_connection, nullptr);
}

void mirror_close(void* handle) noexcept {
    delete &connection(handle);
}

int64_t mirror_get_size(void* handle) noexcept {
    return static_cast<int64_t>(connection(handle).mailbox() != nullptr
                                    ? control::mailbox_size
                                    : connection(handle).volume().size());
}

int mirror_block_size(void* handle, std::uint32_t* minimum, std::uint32_t* preferred,
                      std::uint32_t* maximum) noexcept {
    const bool control = connection(handle).mailbox() != nullptr;
    *minimum = 1;
    *preferred = 4096;
    *maximum = static_cast<std::uint32_t>(control ? control::mailbox_size : 32 * MiB);
    return 0;
}

int mirror_can_multi_conn(void* handle) noexcept {
    // One engine serves all connections, and a flush on any covers what was answered on all.
    return connection(handle).mailbox() == nullptr ? 1 : 0;
}

int mirror_can_fua(void* handle) noexcept {
    return connection(handle).mailbox() == nullptr ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

int mirror_only_volume(void* handle) noexcept {
    return connection(handle).mailbox() == nullptr ? 1 : 0;
}

// Requests.

int mirror_pread(void* handle, void* buffer, std::uint32_t count, std::uint64_t offset,
                 std::uint32_t /*flags*/) noexcept {
    return guarded([&] {
        const auto into = bytes(buffer, count);
        const control::Mailbox* mailbox = connection(handle).mailbox();
        return answer(handle, mailbox != nullptr ? mailbox->read(into, offset)
                                                 : connection(handle).volume().read(into, offset));
    });
}

int mirror_pwrite(void* handle, const void* buffer, std::uint32_t count, std::uint64_t offset,
                  std::uint32_t flags) noexcept {
    return guarded([&] {
        const auto from = bytes(buffer, count);
        control::Mailbox* mailbox = connection(handle).mailbox();
        return answer(handle, mailbox != nullptr ? mailbox->write(from, offset)
                                                 : connection(handle).volume().write(
                                                       from, offset, durability(flags)));
    });
}

int mirror_zero(void* handle, std::uint32_t count, std::uint64_t offset,
                std::uint32_t flags) noexcept {
    return guarded([&] {
        const Space space =
            (flags & NBDKIT_FLAG_MAY_TRIM) != 0 ? Space::may_free : Space::keep_allocated;
        return answer(handle,
                      connection(handle).volume().zero({offset, count}, space, durability(flags)));
    });
}

int mirror_trim(void* handle, std::uint32_t count, std::uint64_t offset,
                std::uint32_t flags) noexcept {
    return guarded([&] {
        return answer(handle, connection(handle).volume().zero({offset, count}, Space::may_free,
                                                               durability(flags)));
    });
}

int mirror_flush(void* handle, std::uint32_t /*flags*/) noexcept {
    return guarded([&] { return answer(handle, connection(handle).volume().flush()); });
}

int mirror_extents(void* handle, std::uint32_t count, std::uint64_t offset, std::uint32_t /*flags*/,
                   nbdkit_extents* extents) noexcept {
    return guarded([&] {
        const auto found = connection(handle).volume().extents({offset, count});
        if (!found) {
            return report(connection(handle), found.error());
        }
        for (const Extent& extent : *found) {
            const std::uint32_t type = extent.hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
            if (nbdkit_add_extent(extents, extent.range.offset, extent.range.length, type) == -1) {
                return -1;
            }
        }
        return 0;
    });
}

nbdkit_plugin make_plugin() noexcept {
    nbdkit_plugin plugin{};
    plugin.name = "mirror";
    plugin.longname = "mirrordisk: the active side of a mirrored disk";
    plugin.version = MIRROR_VERSION;
    plugin.description = "Started by mirrord(8); see nbdkit-mirror-plugin(1).";
    plugin.config_help =
        "volume=NAME   the volume of mirrordisk.toml (required)\n"
        "node=NAME     this node, default $MIRRORDISK_NODE or the host name\n"
        "config=FILE   default /etc/mirrordisk/mirrordisk.toml";
    plugin.magic_config_key = "volume";
    plugin.load = mirror_load;
    plugin.config = mirror_config;
    plugin.config_complete = mirror_config_complete;
    plugin.get_ready = mirror_get_ready;
    plugin.after_fork = mirror_after_fork;
    plugin.cleanup = mirror_cleanup;
    plugin.list_exports = mirror_list_exports;
    plugin.default_export = mirror_default_export;
    plugin.open = mirror_open;
    plugin.close = mirror_close;
    plugin.get_size = mirror_get_size;
    plugin.block_size = mirror_block_size;
    plugin.can_multi_conn = mirror_can_multi_conn;
    plugin.can_fua = mirror_can_fua;
    plugin.can_flush = mirror_only_volume;
    plugin.can_trim = mirror_only_volume;
    plugin.can_zero = mirror_only_volume;
    plugin.can_extents = mirror_only_volume;
    plugin.pread = mirror_pread;
    plugin.pwrite = mirror_pwrite;
    plugin.zero = mirror_zero;
    plugin.trim = mirror_trim;
    plugin.flush = mirror_flush;
    plugin.extents = mirror_extents;
    return plugin;
}

nbdkit_plugin plugin = make_plugin();

}  // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
