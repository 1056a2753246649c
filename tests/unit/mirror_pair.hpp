// SPDX-License-Identifier: BSD-3-Clause
// Two nodes in one process: alpha runs the engine, beta the standby behind a real NBD server, both
// on disks in memory (faulty_machine.hpp). Tests cut the network or the power, bring things back,
// and compare the disks.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/config/config.hpp"
#include "core/engine/volume.hpp"
#include "core/standby/replica.hpp"
#include "faulty_machine.hpp"
#include "standby_server.hpp"
#include "temp_dir.hpp"

namespace mirror::test {

using Bytes = std::vector<std::byte>;
using namespace std::chrono_literals;

/// Not a whole number of regions, digest blocks or blocks of a map.
inline constexpr std::uint64_t pair_size = 4 * MiB + 20 * KiB;

/// Polls; the deadline is for machines under load, not part of what is tested.
[[nodiscard]] bool eventually(const std::function<bool()>& condition,
                              std::chrono::milliseconds most = 60s);
/// `length` bytes that tell one `seed` from another.
[[nodiscard]] Bytes pattern(std::size_t length, unsigned seed);
[[nodiscard]] Bytes content(Store& store, ByteRange range);
[[nodiscard]] Bytes content(MemoryDisk& disk, ByteRange range);
/// What a map of a metadata file holds on the disk.
[[nodiscard]] Bitmap map_on(MemoryDisk& meta, MapKind kind);
[[nodiscard]] Superblock superblock_on(MemoryDisk& meta);
/// The disk as it would be after a power cut that loses all that was not flushed.
[[nodiscard]] std::unique_ptr<MemoryDisk> durable_image(const MemoryDisk& disk);

class MirrorPair {
  public:
    struct Options {
        std::chrono::milliseconds peer_timeout = 5000ms;
        OnPeerLoss on_peer_loss = OnPeerLoss::continue_alone;
        std::uint64_t size = pair_size;
        bool one_power = false;  ///< both machines fail at the same moment
    };

    /// Both replicas are equal (all zeroes); both nodes run.
    MirrorPair();
    explicit MirrorPair(Options options);
    ~MirrorPair();
    MirrorPair(const MirrorPair&) = delete;
    MirrorPair& operator=(const MirrorPair&) = delete;

    [[nodiscard]] Volume& volume() { return *volume_; }
    [[nodiscard]] Replica& replica() { return *server_.replica(); }
    [[nodiscard]] StandbyServer& server() { return server_; }

    // The engine's own view.
    [[nodiscard]] control::Json status();
    [[nodiscard]] std::string mode();
    [[nodiscard]] control::Json ask(const control::Json& request);
    [[nodiscard]] std::uint64_t last_resync(const std::string& figure);

    /// Asks the engine to try at once, again and again. False when the power failed meanwhile.
    bool wait_in_sync();
    [[nodiscard]] bool wait_alone();

    /// beta's machine runs on, but mirrord there is gone (its page cache stays).
    void cut();
    void restore();
    /// The engine dies; alpha's machine runs on.
    void crash_active();
    void restart_active();
    /// A machine's power fails; of what was not flushed each disk keeps what `kept` says. Does
    /// the same when the power has failed by itself (Power::cut_at).
    void cut_power_of_alpha(const Kept& kept);
    void cut_power_of_beta(const Kept& kept);
    void cut_power_of_both(const Kept& kept);

    /// Compares the disks, as the machines see them.
    [[nodiscard]] bool equal();
    [[nodiscard]] Bytes read(ByteRange range);

    Machine alpha;
    Machine beta;

  private:
    [[nodiscard]] Config config() const;
    void format();
    void supply_power();
    void start_active();
    void start_standby();
    /// The engine's threads end without a good-bye to anybody.
    void end_active();

    const Options options_;
    TempDir directory_;
    std::uint64_t size_;
    StandbyServer server_{"r0"};
    std::unique_ptr<Volume> volume_;
};

}  // namespace mirror::test
