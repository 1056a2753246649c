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

#include "core/base/json.hpp"
#include "core/config/config.hpp"
#include "core/engine/volume.hpp"
#include "core/standby/replica.hpp"
#include "eventually.hpp"
#include "faulty_machine.hpp"
#include "standby_server.hpp"
#include "temp_dir.hpp"

namespace mirror::test {

using Bytes = std::vector<std::byte>;
using namespace std::chrono_literals;

/// Not a whole number of regions, digest blocks or blocks of a map.
inline constexpr std::uint64_t pair_size = 4 * MiB + 20 * KiB;

/// Holds whoever comes to it until it is opened.
class Barrier {
  public:
    void wait() {
        MutexLock lock(mutex_);
        ++waiting_;
        while (!open_) {
            changed_.wait(lock);
        }
    }
    void open() {
        MutexLock lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    [[nodiscard]] int arrived() {
        MutexLock lock(mutex_);
        return waiting_;
    }

  private:
    Mutex mutex_;
    CondVar changed_;
    int waiting_ GUARDED_BY(mutex_) = 0;
    bool open_ GUARDED_BY(mutex_) = false;
};

/// `length` bytes that tell one `seed` from another.
[[nodiscard]] Bytes pattern(std::size_t length, unsigned seed);
[[nodiscard]] Bytes content(Store& store, ByteRange range);
[[nodiscard]] Bytes content(MemoryDisk& disk, ByteRange range);
/// What a map of a metadata file holds on the disk.
[[nodiscard]] Bitmap map_on(MemoryDisk& meta, MapKind kind);
[[nodiscard]] Superblock superblock_on(MemoryDisk& meta);
/// The disk as it would be after a power cut that loses all that was not flushed.
[[nodiscard]] std::unique_ptr<MemoryDisk> durable_image(const MemoryDisk& disk);

enum class Victim { alpha, beta, both };

class MirrorPair {
  public:
    struct Options {
        /// Long, so that a machine under load is not taken for a silent one.
        std::chrono::milliseconds peer_timeout = 60s;
        OnPeerLoss on_peer_loss = OnPeerLoss::continue_alone;
        std::chrono::milliseconds disk_timeout = 0ms;  ///< alpha's
        std::uint64_t size = pair_size;
        bool one_power = false;  ///< both machines fail at the same moment
    };

    /// Both replicas are equal (all zeroes); both nodes run.
    MirrorPair();
    explicit MirrorPair(Options options);
    ~MirrorPair();
    MirrorPair(const MirrorPair&) = delete;
    MirrorPair& operator=(const MirrorPair&) = delete;

    /// What alpha's engine is started with.
    [[nodiscard]] Config config() const;
    [[nodiscard]] Volume& volume() { return *volume_; }
    [[nodiscard]] Replica& replica() { return *server_.replica(); }
    [[nodiscard]] StandbyServer& server() { return server_; }

    // The engine's own view.
    [[nodiscard]] control::Json status();
    [[nodiscard]] std::string mode();
    [[nodiscard]] control::Json ask(const control::Json& request);
    [[nodiscard]] std::uint64_t last_resync(const std::string& figure);

    /// In sync with the standby that runs now, not with the one before. Asks the engine to try at
    /// once, again and again. False when the power failed meanwhile.
    bool wait_in_sync();
    [[nodiscard]] bool wait_alone();

    /// beta's machine runs on, but mirrord there is gone (its page cache stays).
    void cut();
    void restore();
    /// The engine dies; alpha's machine runs on.
    void crash_active();
    /// A machine's power fails, if it has not by itself (Power::cut_at); of what was not flushed
    /// each disk keeps what `kept` says.
    void lose_power(Victim victim, const Kept& kept);
    /// After either of the two.
    void start_again();
    // One machine, while the other one runs on. Its power may have failed already; `kept` as above,
    // or null where the process alone died.
    void kill_active(const Kept& kept);
    void restart_active();
    void kill_standby(const Kept& kept);
    void restart_standby();
    /// At the next power-up of a machine: its power fails again at this change.
    void plan_next_cut(std::uint64_t alpha_change, std::uint64_t beta_change) {
        next_cut_alpha_ = alpha_change;
        next_cut_beta_ = beta_change;
    }
    /// False when alpha's power failed while its engine started.
    [[nodiscard]] bool active_runs() const noexcept { return volume_ != nullptr; }

    /// Compares the disks, as the machines see them.
    [[nodiscard]] bool equal();
    [[nodiscard]] Bytes read(ByteRange range);
    /// alpha's
    [[nodiscard]] const std::string& state_dir() const { return directory_.path(); }

    Machine alpha;
    Machine beta;

  private:
    void format();
    void supply_alpha();
    void supply_beta();
    void start_active();
    void start_standby();
    /// The engine's threads end without a good-bye to anybody.
    void end_active();

    const Options options_;
    TempDir directory_;
    const std::uint64_t size_;
    std::uint64_t next_cut_alpha_ = 0;
    std::uint64_t next_cut_beta_ = 0;
    bool alpha_down_ = false;
    bool beta_down_ = false;
    StandbyServer server_{"r0"};
    std::unique_ptr<Volume> volume_;
};

}  // namespace mirror::test
