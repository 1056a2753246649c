// SPDX-License-Identifier: BSD-3-Clause
// Random writes to an NBD server of which each is made durable: what fio's NBD engine can't send
// (its sync=1 sends plain writes) or does not say exactly (which flush follows which write). Each
// of DEPTH writers has one request in flight and a stripe of the volume of its own, so that no two
// requests overlap. One thread, one connection.
//
//   nbd_load --uri URI --depth N --seconds S [--durability none|flush|fua] [--block BYTES]
//
// A flush belongs to the write before it: an operation is both, and its latency is that of both.
// Prints one JSON object: operations, seconds, latencies in ns, this process's CPU time.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <libnbd.h>
#include <nlohmann/json.hpp>

namespace {

using Clock = std::chrono::steady_clock;

struct Setup {
    std::string uri;
    std::string durability = "none";
    std::uint64_t depth = 1;
    std::uint64_t block = 4096;
    double seconds = 3;
    std::uint64_t seed = 1;
};

[[noreturn]] void stop(const std::string& why) {
    fmt::print(stderr, "nbd_load: {}\n", why);
    std::exit(1);
}

[[noreturn]] void stop_at(const std::string& what) {
    stop(fmt::format("{}: {}", what, nbd_get_error()));
}

double cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// One of the DEPTH writers. libnbd holds pointers to it while a request is in flight.
struct Writer {
    enum class Step { idle, writing, written, flushing, done };

    std::uint64_t first = 0;   // block number
    std::uint64_t blocks = 0;  // of its stripe
    Step step = Step::idle;
    Clock::time_point began;
    Clock::time_point ended;
    int error = 0;
    std::vector<char> data;

    /// libnbd calls this with its lock held: the next request has to wait for drive().
    static int completed(void* data, int* error) {
        auto& self = *static_cast<Writer*>(data);
        self.error = *error;
        self.ended = Clock::now();
        self.step = self.step == Step::writing ? Step::written : Step::done;
        return 1;
    }
};

class Load {
  public:
    explicit Load(const Setup& setup)
        : setup_(setup), random_(setup.seed), handle_(nbd_create()), writers_(setup.depth) {
        if (handle_ == nullptr) {
            stop_at("no libnbd handle");
        }
        if (nbd_connect_uri(handle_, setup.uri.c_str()) == -1) {
            stop_at(setup.uri);
        }
        check_offers();
        share_volume();
    }
    ~Load() {
        nbd_shutdown(handle_, 0);
        nbd_close(handle_);
    }
    Load(const Load&) = delete;
    Load& operator=(const Load&) = delete;

    nlohmann::json run() {
        const double cpu_before = cpu_seconds();
        const auto began = Clock::now();
        const auto end = began + std::chrono::duration<double>(setup_.seconds);
        drive([&] { return Clock::now() < end; });
        const std::chrono::duration<double> took = Clock::now() - began;
        return {{"operations", latencies_.size()},
                {"seconds", took.count()},
                {"cpu_seconds", cpu_seconds() - cpu_before},
                {"latency_ns", percentiles()}};
    }

  private:
    /// A server that lacks FUA or flush would make the figures those of something else.
    void check_offers() {
        if (setup_.durability == "fua" && nbd_can_fua(handle_) != 1) {
            stop("the server does not offer FUA");
        }
        if (setup_.durability == "flush" && nbd_can_flush(handle_) != 1) {
            stop("the server does not offer flushes");
        }
    }

    void share_volume() {
        const std::int64_t size = nbd_get_size(handle_);
        const std::uint64_t blocks =
            size < 0 ? 0 : static_cast<std::uint64_t>(size) / setup_.block / setup_.depth;
        if (blocks == 0) {
            stop("the volume has less than one block for each writer");
        }
        for (std::uint64_t i = 0; i < writers_.size(); ++i) {
            writers_[i].first = i * blocks;
            writers_[i].blocks = blocks;
            writers_[i].data.resize(setup_.block);
            std::generate(writers_[i].data.begin(), writers_[i].data.end(),
                          [this] { return static_cast<char>(random_()); });
        }
    }

    template <typename Going>
    void drive(const Going& going) {
        for (;;) {
            bool waiting = false;
            for (Writer& writer : writers_) {
                advance(writer);
                if (writer.step == Writer::Step::idle && going()) {
                    write(writer);
                }
                waiting = waiting || writer.step != Writer::Step::idle;
            }
            if (!waiting) {
                return;
            }
            if (nbd_poll(handle_, -1) == -1) {
                stop_at("the connection");
            }
        }
    }

    void write(Writer& writer) {
        std::uniform_int_distribution<std::uint64_t> any(0, writer.blocks - 1);
        const std::uint64_t offset = (writer.first + any(random_)) * setup_.block;
        const std::uint32_t flags = setup_.durability == "fua" ? LIBNBD_CMD_FLAG_FUA : 0U;
        writer.step = Writer::Step::writing;
        writer.began = Clock::now();
        if (nbd_aio_pwrite(handle_, writer.data.data(), writer.data.size(), offset,
                           {Writer::completed, &writer, nullptr}, flags) == -1) {
            stop_at("a write");
        }
    }

    void flush(Writer& writer) {
        writer.step = Writer::Step::flushing;
        if (nbd_aio_flush(handle_, {Writer::completed, &writer, nullptr}, 0) == -1) {
            stop_at("a flush");
        }
    }

    /// Takes in what was answered.
    void advance(Writer& writer) {
        if (writer.error != 0) {
            stop(fmt::format("a request failed: {}", std::strerror(writer.error)));
        }
        if (writer.step == Writer::Step::written) {
            if (setup_.durability == "flush") {
                flush(writer);
                return;
            }
            writer.step = Writer::Step::done;
        }
        if (writer.step == Writer::Step::done) {
            latencies_.push_back(std::chrono::nanoseconds(writer.ended - writer.began).count());
            writer.step = Writer::Step::idle;
        }
    }

    nlohmann::json percentiles() {
        std::sort(latencies_.begin(), latencies_.end());
        nlohmann::json found = nlohmann::json::object();
        if (latencies_.empty()) {
            return found;
        }
        for (const auto& [name, part] : {std::pair{"50", 0.5}, {"99", 0.99}, {"99.9", 0.999}}) {
            const auto last = static_cast<double>(latencies_.size() - 1);
            found[name] = latencies_[static_cast<std::size_t>(part * last)];
        }
        found["max"] = latencies_.back();
        return found;
    }

    const Setup setup_;
    std::mt19937_64 random_;
    nbd_handle* const handle_;
    std::vector<Writer> writers_;
    std::vector<std::int64_t> latencies_;
};

}  // namespace

int main(int argc, char** argv) {
    Setup setup;
    CLI::App app("random writes over NBD, each made durable");
    app.add_option("--uri", setup.uri, "the server")->required();
    app.add_option("--depth", setup.depth, "writers")->check(CLI::Range(1, 1024));
    app.add_option("--block", setup.block, "bytes a write")->check(CLI::Range(512, 32 << 20));
    app.add_option("--seconds", setup.seconds, "how long")->check(CLI::PositiveNumber);
    app.add_option("--seed", setup.seed, "of the offsets and the data");
    app.add_option("--durability", setup.durability, "how each write is made durable")
        ->check(CLI::IsMember({"none", "flush", "fua"}));
    CLI11_PARSE(app, argc, argv);
    fmt::print("{}\n", Load(setup).run().dump());
    return 0;
}
