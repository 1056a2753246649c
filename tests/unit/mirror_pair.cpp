// SPDX-License-Identifier: BSD-3-Clause
#include "mirror_pair.hpp"

#include <random>
#include <thread>
#include <utility>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/base/sanitized.hpp"

namespace mirror::test {
namespace {

using control::Json;

Superblock first_superblock(const std::string& node, const std::string& peer, VolumeId id,
                            const Lineage& lineage, std::uint64_t size) {
    Superblock block;
    block.volume = id;
    block.volume_name = "r0";
    block.node = node;
    block.peer = peer;
    block.size = size;
    block.state = ReplicaState::up_to_date;
    block.lineage = lineage;
    return block;
}

std::unique_ptr<Store> timed(std::unique_ptr<Store> store,
                             const std::shared_ptr<DiskPatience>& patience) {
    if (!patience) {
        return store;
    }
    Store& cache = *store;
    return std::make_unique<TimedStore>(std::move(store), patience, "the disk",
                                        [&cache](std::span<std::byte> into, std::uint64_t at) {
                                            return cache.read_cached(into, at);
                                        });
}

/// Null when the power failed meanwhile.
std::unique_ptr<MetaFile> load_meta(Machine& machine,
                                    const std::shared_ptr<DiskPatience>& patience = {}) {
    auto meta = MetaFile::load(timed(machine.open_meta(), patience), "meta");
    REQUIRE_MESSAGE((meta || machine.power->is_off()), meta.error().text());
    return meta ? std::move(*meta) : nullptr;
}

}  // namespace

Bytes pattern(std::size_t length, unsigned seed) {
    std::minstd_rand random(seed + 1);
    Bytes bytes(length);
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(random() >> 8 | 1U);
    }
    return bytes;
}

Bytes content(Store& store, ByteRange range) {
    Bytes bytes(range.length);
    const auto read = store.read(bytes, range.offset);
    REQUIRE_MESSAGE(read, read.error().text());
    return bytes;
}

Bytes content(MemoryDisk& disk, ByteRange range) {
    return content(*disk.open(), range);
}

Bitmap map_on(MemoryDisk& meta, MapKind kind) {
    auto file = MetaFile::load(meta.open(), "meta");
    REQUIRE_MESSAGE(file, file.error().text());
    auto map = (*file)->read_map(kind);
    REQUIRE_MESSAGE(map, map.error().text());
    return std::move(*map);
}

Superblock superblock_on(MemoryDisk& meta) {
    auto block = MetaFile::look(*meta.open(), "meta");
    REQUIRE_MESSAGE(block, block.error().text());
    return std::move(*block);
}

std::unique_ptr<MemoryDisk> durable_image(const MemoryDisk& disk) {
    auto image = std::make_unique<MemoryDisk>(disk);
    image->cut_power([](std::size_t) { return false; });
    return image;
}

MirrorPair::MirrorPair() : MirrorPair(Options{}) {}

MirrorPair::MirrorPair(Options options)
    : alpha(options.size, meta_file_size(options.size)),
      beta(options.size, meta_file_size(options.size)),
      options_(options),
      size_(options.size) {
    supply_alpha();
    supply_beta();
    format();
    start_standby();
    start_active();
}

MirrorPair::~MirrorPair() {
    alpha.disk_faults.before_write({});
    beta.disk_faults.before_write({});
    server_.sever();
    server_.be_silent(false);
    volume_.reset();
    server_.stop();
}

void MirrorPair::format() {
    const auto id = random_id<VolumeId>();
    Lineage lineage;
    lineage.begin(random_id<GenerationId>(), system_clock().wall_now(), "alpha",
                  GenerationReason::created);
    Superblock first = first_superblock("alpha", "beta", id, lineage, size_);
    first.role = Role::active;
    first.last_active = true;
    REQUIRE(MetaFile::format(alpha.meta.open(), first));
    REQUIRE(
        MetaFile::format(beta.meta.open(), first_superblock("beta", "alpha", id, lineage, size_)));
}

Config MirrorPair::config() const {
    VolumeConfig volume;
    volume.name = "r0";
    volume.size = size_;
    volume.peer_timeout = options_.peer_timeout;
    // A session begins when a probe of a megabyte got through within it.
    if (is_sanitized && volume.peer_timeout < 1s) {
        volume.peer_timeout *= 4;
    }
    volume.on_peer_loss = options_.on_peer_loss;
    volume.backing = {{"alpha", "/alpha"}, {"beta", "/beta"}};
    Config config;
    config.tls.mode = TlsMode::off;  // tls_server_test has that
    for (const std::string name : {"alpha", "beta"}) {
        NodeConfig node;
        node.name = name;
        node.address = {"127.0.0.1", name == "beta" ? server_.port() : std::uint16_t{1}};
        node.state_dir = directory_.path();
        volume.address[name] = node.address;
        config.nodes[name] = node;
    }
    config.volumes["r0"] = volume;
    return config;
}

void MirrorPair::supply_alpha() {
    alpha.power = std::make_shared<Power>();
    alpha.power->on_cut([this] { server_.sever(); });
    alpha.power->cut_at(std::exchange(next_cut_alpha_, 0));
    if (options_.one_power) {
        beta.power = alpha.power;
    }
}

void MirrorPair::supply_beta() {
    if (!options_.one_power) {
        beta.power = std::make_shared<Power>();
        beta.power->on_cut([this] { server_.sever(); });
        beta.power->cut_at(std::exchange(next_cut_beta_, 0));
    }
}

void MirrorPair::start_active() {
    const auto survived = [this](const auto& result) {
        REQUIRE_MESSAGE((result || alpha.power->is_off()), result.error().text());
        return result.has_value();
    };
    const auto patience = options_.disk_timeout.count() == 0
                              ? nullptr
                              : std::make_shared<DiskPatience>(options_.disk_timeout);
    auto meta = load_meta(alpha, patience);
    if (!meta) {
        return;
    }
    auto differences = Differences::load(*meta);
    if (!survived(differences)) {
        return;
    }
    volume_ = std::make_unique<Volume>(config(), "alpha", "r0", timed(alpha.open_disk(), patience),
                                       std::move(meta), std::move(*differences), system_clock(),
                                       patience);
    if (!survived(volume_->start())) {
        volume_.reset();
    }
}

void MirrorPair::start_standby() {
    auto meta = load_meta(beta);
    if (!meta) {
        return;
    }
    auto replica = Replica::open(beta.open_disk(), std::move(meta), system_clock());
    REQUIRE_MESSAGE(replica, replica.error().text());
    server_.start(std::move(*replica));
}

Json MirrorPair::status() {
    return ask({{"request", "status"}});
}

Json MirrorPair::ask(const Json& request) {
    auto answer = volume_->handle(request);
    REQUIRE_MESSAGE(answer, answer.error().text());
    return std::move(*answer);
}

std::string MirrorPair::mode() {
    return status()["mode"];
}

std::uint64_t MirrorPair::last_resync(const std::string& figure) {
    return status()["peer"]["last_resync"][figure];
}

bool MirrorPair::wait_in_sync() {
    const bool reached = eventually([this] {
        // The engine may not have noticed yet that the server is another one.
        if ((server_.was_met() && mode() == "in-sync") || alpha.power->is_off() ||
            beta.power->is_off()) {
            return true;
        }
        (void)ask({{"request", "peer-hint"}});
        return false;
    });
    CHECK_MESSAGE(reached, status().dump(1));
    return reached && !alpha.power->is_off() && !beta.power->is_off();
}

bool MirrorPair::wait_alone() {
    return eventually([this] { return mode() == "alone"; });
}

void MirrorPair::cut() {
    server_.stop();
}

void MirrorPair::restore() {
    start_standby();
}

void MirrorPair::end_active() {
    alpha.power->cut();
    volume_.reset();
}

void MirrorPair::crash_active() {
    end_active();
    server_.stop();
    alpha_down_ = true;
}

void MirrorPair::lose_power(Victim victim, const Kept& kept) {
    if (victim != Victim::alpha) {
        beta.power->cut();
        beta_down_ = true;
    }
    if (victim != Victim::beta) {
        end_active();
        alpha_down_ = true;
    }
    server_.stop();
    if (alpha_down_) {
        alpha.disk.cut_power(kept);
        alpha.meta.cut_power(kept);
    }
    if (beta_down_) {
        beta.disk.cut_power(kept);
        beta.meta.cut_power(kept);
    }
}

void MirrorPair::start_again() {
    if (beta_down_) {
        supply_beta();
    }
    if (alpha_down_) {
        supply_alpha();
    }
    start_standby();
    if (alpha_down_) {
        start_active();
    }
    alpha_down_ = false;
    beta_down_ = false;
}

void MirrorPair::kill_active(const Kept& kept) {
    end_active();
    if (kept) {
        alpha.disk.cut_power(kept);
        alpha.meta.cut_power(kept);
    }
}

void MirrorPair::restart_active() {
    supply_alpha();
    server_.reconnect();
    start_active();
}

void MirrorPair::kill_standby(const Kept& kept) {
    beta.power->cut();
    server_.stop();
    if (kept) {
        beta.disk.cut_power(kept);
        beta.meta.cut_power(kept);
    }
}

void MirrorPair::restart_standby() {
    supply_beta();
    start_standby();
}

bool MirrorPair::equal() {
    const ByteRange all{0, size_};
    return content(alpha.disk, all) == content(beta.disk, all);
}

Bytes MirrorPair::read(ByteRange range) {
    Bytes bytes(range.length);
    const auto read = volume_->read(bytes, range.offset);
    REQUIRE_MESSAGE(read, read.error().text());
    return bytes;
}

}  // namespace mirror::test
