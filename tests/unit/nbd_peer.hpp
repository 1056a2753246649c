// SPDX-License-Identifier: BSD-3-Clause
// The other end for tests of the link: a real nbdkit on a Unix socket or a TCP port of its own, and
// a raw TCP listener whose script is a function. Used from the test's thread.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/base/fd.hpp"
#include "core/nbd/link.hpp"
#include "temp_dir.hpp"

namespace mirror::test {

/// nbdkit in the foreground; killed with the object.
class Nbdkit {
  public:
    /// Filters, plugin and their parameters: {"--filter=delay", "memory", "1M", "wdelay=1"}.
    explicit Nbdkit(const std::vector<std::string>& arguments);
    ~Nbdkit();
    Nbdkit(const Nbdkit&) = delete;
    Nbdkit& operator=(const Nbdkit&) = delete;

    [[nodiscard]] nbd::Address address() const;
    [[nodiscard]] const std::string& dir() const noexcept { return dir_.path(); }
    void signal(int number) const;  ///< SIGSTOP, SIGCONT, SIGKILL
    /// Tools that the tests need and that are not there make them skip.
    [[nodiscard]] static bool is_installed();

  private:
    TempDir dir_;
    int pid_ = -1;
};

/// Accepts one connection on a free port of 127.0.0.1 and lets `script` talk on it. The connection
/// stays open until the object goes, unless the script closes it.
class RawServer {
  public:
    explicit RawServer(std::function<void(Fd& connection)> script);
    ~RawServer();
    RawServer(const RawServer&) = delete;
    RawServer& operator=(const RawServer&) = delete;

    [[nodiscard]] nbd::Address address() const;

  private:
    Fd listener_;
    Fd connection_;
    std::uint16_t port_ = 0;
    std::thread thread_;
};

/// The server's side of a handshake that grants `size` bytes with FLUSH and FUA.
void grant_export(int connection, std::uint64_t size);
void send_bytes(int connection, const std::string& bytes);
/// Up to `count` bytes; fewer at the end of the stream.
[[nodiscard]] std::string receive_bytes(int connection, std::size_t count);
[[nodiscard]] std::string big_endian(std::uint64_t value, std::size_t bytes);

}  // namespace mirror::test
