// SPDX-License-Identifier: BSD-3-Clause
// What the intent map costs: writes of 4 KiB, each to two files that stand for the two replicas,
// behind the engine's IntentMap. Once with its durable part (a real metadata file, fdatasync), once
// with one that does nothing; there is no link in between, so that nothing hides the map. First
// touch: each write goes to a region of its own; steady state: the same regions again. Runs of
// both sorts alternate; medians are shown.
//
//   bench_intent [--directory DIR] [--rounds N] [--json]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/engine/differences.hpp"
#include "core/store/file_store.hpp"

using namespace mirror;

namespace {

constexpr std::uint64_t regions = 512;
constexpr std::uint64_t volume_size = regions * region_size;

struct Setup {
    std::string directory = "/var/tmp";
    unsigned rounds = 7;
    bool json = false;
};

void stop(const std::string& why) {
    fmt::print(stderr, "bench_intent: {}\n", why);
    std::exit(1);
}

std::unique_ptr<Store> make_store(const std::string& path) {
    if (auto made = create_backing_file(path, volume_size); !made) {
        stop(made.error().text());
    }
    auto store = FileStore::open(path, FileStore::Lock::exclusive);
    if (!store) {
        stop(store.error().text());
    }
    return std::move(*store);
}

/// One engine's files, made anew for each run; the map is the real one or does nothing.
class Bench {
  public:
    Bench(const std::string& directory, bool with_map)
        : directory_(directory + "/mirror-intent-bench") {
        std::filesystem::remove_all(directory_);
        std::filesystem::create_directories(directory_);
        local_ = make_store(directory_ + "/local");
        peer_ = make_store(directory_ + "/peer");
        if (with_map) {
            make_meta();
            intents_.emplace(volume_size,
                             [this](const Bitmap& bits, const std::vector<std::uint64_t>& chunks) {
                                 ++syncs_;
                                 auto done = meta_->write_chunks(MapKind::intent, bits, chunks);
                                 return done ? meta_->sync() : done;
                             });
        } else {
            intents_.emplace(volume_size,
                             [](const Bitmap&, const std::vector<std::uint64_t>&) -> Result<void> {
                                 return {};
                             });
        }
        // The blocks of the files are there already: what is measured is the map.
        for (std::uint64_t region = 0; region < regions; ++region) {
            write_both(region);
        }
        if (!local_->flush() || !peer_->flush()) {
            stop("the files can't be flushed");
        }
    }
    ~Bench() {
        local_.reset();
        peer_.reset();
        meta_.reset();
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    /// Seconds for one write to each region, `depth` at a time.
    double pass(unsigned depth) {
        std::atomic<std::uint64_t> next{0};
        const auto began = std::chrono::steady_clock::now();
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < depth; ++i) {
            threads.emplace_back([&] {
                for (std::uint64_t region = next++; region < regions; region = next++) {
                    const auto entered = intents_->enter({region * region_size, block_size});
                    if (!entered) {
                        stop(entered.error().text());
                    }
                    write_both(region);
                }
            });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    }
    [[nodiscard]] std::uint64_t syncs() const { return syncs_; }

  private:
    void make_meta() {
        Superblock block;
        block.volume_name = "bench";
        block.node = "alpha";
        block.peer = "beta";
        block.size = volume_size;
        auto meta = create_meta(directory_ + "/state/bench/meta", block);
        if (!meta) {
            stop(meta.error().text());
        }
        meta_ = std::move(*meta);
    }
    void write_both(std::uint64_t region) {
        if (!local_->write(data_, region * region_size) ||
            !peer_->write(data_, region * region_size)) {
            stop("a write failed");
        }
    }

    const std::string directory_;
    const std::vector<std::byte> data_ = std::vector<std::byte>(block_size, std::byte{7});
    std::unique_ptr<Store> local_;
    std::unique_ptr<Store> peer_;
    std::unique_ptr<MetaFile> meta_;
    std::optional<IntentMap> intents_;
    std::atomic<std::uint64_t> syncs_{0};
};

struct Figures {
    std::vector<double> first;
    std::vector<double> steady;
    std::vector<double> first_syncs;
    std::vector<double> steady_syncs;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// Microseconds a write.
double per_write(const std::vector<double>& seconds) {
    return median(seconds) * 1e6 / static_cast<double>(regions);
}

void run_once(const Setup& setup, unsigned depth, bool with_map, Figures& figures) {
    Bench bench(setup.directory, with_map);
    figures.first.push_back(bench.pass(depth));
    const auto after_first = static_cast<double>(bench.syncs());
    figures.first_syncs.push_back(after_first);
    figures.steady.push_back(bench.pass(depth));
    figures.steady_syncs.push_back(static_cast<double>(bench.syncs()) - after_first);
}

}  // namespace

int main(int argc, char** argv) {
    Setup setup;
    CLI::App app("what the intent map costs");
    app.add_option("--directory", setup.directory, "where the files go: a real disk");
    app.add_option("--rounds", setup.rounds, "runs of each sort")->check(CLI::Range(1, 1000));
    app.add_flag("--json", setup.json, "print JSON");
    CLI11_PARSE(app, argc, argv);

    nlohmann::json rows = nlohmann::json::array();
    if (!setup.json) {
        fmt::print("{} regions, one 4 KiB write each, {} rounds, medians, microseconds a write\n",
                   regions, setup.rounds);
        fmt::print("{:>5}  {:<12} {:>9} {:>9} {:>7} {:>6}\n", "depth", "phase", "with map",
                   "without", "ratio", "syncs");
    }
    for (const unsigned depth : {1U, 16U}) {
        Figures with;
        Figures without;
        for (unsigned round = 0; round < setup.rounds; ++round) {
            run_once(setup, depth, round % 2 == 0, round % 2 == 0 ? with : without);
            run_once(setup, depth, round % 2 != 0, round % 2 != 0 ? with : without);
        }
        const auto show = [&](const char* phase, double on, double off, double syncs) {
            rows.push_back({{"depth", depth},
                            {"phase", phase},
                            {"with_map_us", on},
                            {"without_map_us", off},
                            {"ratio", on / off},
                            {"metadata_syncs", syncs},
                            {"writes", regions}});
            if (!setup.json) {
                fmt::print("{:>5}  {:<12} {:>9.1f} {:>9.1f} {:>7.2f} {:>6.0f}\n", depth, phase, on,
                           off, on / off, syncs);
            }
        };
        show("first touch", per_write(with.first), per_write(without.first),
             median(with.first_syncs));
        show("steady state", per_write(with.steady), per_write(without.steady),
             median(with.steady_syncs));
    }
    if (setup.json) {
        fmt::print("{}\n", nlohmann::json{{"rounds", setup.rounds}, {"rows", rows}}.dump(1));
    }
    return 0;
}
