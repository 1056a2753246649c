// SPDX-License-Identifier: BSD-3-Clause
// What the NBD server serves: named exports behind one small interface. An ExportProvider decides
// who may open what; one Export object serves one connection, called from that connection's
// thread only (and from others at the same time for other connections' objects).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <sys/types.h>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/units.hpp"
#include "core/store/store.hpp"

namespace mirror::nbd {

/// Who is at the other end.
struct Client {
    std::string address;       ///< "10.0.0.2:40112", or "unix" for a local socket
    std::optional<uid_t> uid;  ///< by SO_PEERCRED on a Unix socket
    std::optional<pid_t> pid;
    /// Over TLS: the name of the pre-shared key that it knows; empty otherwise.
    std::string key;
    /// Over TLS with a certificate or a key of two nodes: the node of the config that it is for;
    /// empty otherwise (who knows the cluster's key may be any node).
    std::string node;
    /// The primary and the other groups of who connected to a Unix socket, as they were then.
    std::vector<gid_t> groups{};
};

/// What is claimed in the handshake; every claim must be true.
struct Traits {
    std::uint64_t size = 0;
    bool read_only = false;
    bool flush = false;  ///< FLUSH and FUA
    bool trim = false;
    bool zero = false;
    bool multi_conn = false;
    bool extents = false;  ///< base:allocation
    std::uint32_t preferred_block = 4096;
    std::string description;
};

class Export {
  public:
    virtual ~Export() = default;

    [[nodiscard]] virtual Traits traits() const = 0;
    /// Ranges were checked against traits().size before the call, as were read_only and payload.
    [[nodiscard]] virtual Result<void> read(std::span<std::byte> into, std::uint64_t offset) = 0;
    [[nodiscard]] virtual Result<void> write(std::span<const std::byte> from,
                                             std::uint64_t offset) = 0;
    [[nodiscard]] virtual Result<void> zero(ByteRange range, Space space) = 0;
    /// The range reads as zeroes afterwards (stricter than NBD: replicas must not drift apart).
    [[nodiscard]] virtual Result<void> trim(ByteRange range) = 0;
    /// The server calls it for FLUSH, and once for all FUA requests of one batch.
    [[nodiscard]] virtual Result<void> flush() = 0;
    [[nodiscard]] virtual Result<std::vector<Extent>> extents(ByteRange range) = 0;

    /// Whether the write that was just applied may be answered only when it is durable, as with
    /// FUA: for exports whose writes carry commands of their own.
    [[nodiscard]] virtual bool wants_flush() const noexcept { return false; }
    /// In a LoopServer: its requests take their time, so it is served by a thread of its own with
    /// the functions above, and not by the server's AsyncExport.
    [[nodiscard]] virtual bool wants_thread() const noexcept { return false; }
    /// Whether the connection is to end when what was received has been answered.
    [[nodiscard]] virtual bool is_over() const noexcept { return false; }
};

class ExportProvider {
  public:
    virtual ~ExportProvider() = default;

    /// Names to show for LIST, each at most 4096 bytes. May be called from many threads.
    [[nodiscard]] virtual std::vector<std::string> list(const Client& client) = 0;
    /// Called on the connection's thread, once for the export that a client asks about (INFO, a
    /// metadata context) and then opens; a client may also go away without opening it. The empty
    /// name is the default export. not_found, invalid and refused reach the client as such.
    ///
    /// `shutdown` ends the connection from outside: no request that is received later is served,
    /// nor one that was received and not begun. It does not wait, and may be called from any
    /// thread, with any lock held that Export's functions do not take while they wait for it; after
    /// the Export is gone it does nothing. The Export is destroyed on the connection's thread when
    /// its last request has been applied: that is when a session is over.
    [[nodiscard]] virtual Result<std::unique_ptr<Export>> open(const std::string& name,
                                                               const Client& client,
                                                               std::function<void()> shutdown) = 0;
};

}  // namespace mirror::nbd
