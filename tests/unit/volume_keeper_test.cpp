// SPDX-License-Identifier: BSD-3-Clause
// mirrord's keeper of a volume, around a process that looks like its engine and serves nothing.
#include "daemon/volume_keeper.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <thread>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/base/spawn.hpp"
#include "core/control/mailbox.hpp"
#include "core/control/messages.hpp"
#include "core/control/pages.hpp"
#include "daemon/requests.hpp"
#include "daemon/volume_home.hpp"
#include "tests/unit/eventually.hpp"
#include "tests/unit/no_devices.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;
using mirror::test::eventually;
using namespace std::chrono_literals;
using test::NoDevices;

namespace {

constexpr std::uint64_t volume_size = 1 * MiB;

std::string text_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::chrono::nanoseconds used(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

std::string config_text(const std::string& folder, const std::vector<std::string>& volumes) {
    std::string text = fmt::format(R"(
[node.alpha]
address = "127.0.0.1:1"
run_dir = "{0}"
state_dir = "{0}"
[node.beta]
address = "127.0.0.1:2"
)",
                                   folder);
    for (const std::string& volume : volumes) {
        text += fmt::format(
            "[volume.{0}]\nbacking.alpha = \"{1}/{0}.img\"\nbacking.beta = \"{1}/{0}.img\"\n",
            volume, folder);
    }
    return text;
}

/// The node alpha, with a replica of each volume and all that can be known of one.
struct Alpha {
    test::TempDir dir;
    Config config;
    EventLog events{dir.file("events.jsonl"), "alpha", system_clock()};
    Context context;
    NoDevices devices;
    PeerWatch peers;
    Keepers keepers;

    explicit Alpha(const std::vector<std::string>& volumes)
        : config(parse_config(config_text(dir.path(), volumes), "m.toml").value()),
          context{config, **config.node("alpha"), system_clock(), events},
          peers(context) {
        const Homes homes = find_homes(config, context.node, {});
        for (const std::string& name : volumes) {
            make_replica(name);
            keepers.put(std::make_unique<VolumeKeeper>(context, homes.at(name), peers, devices));
        }
    }
    void make_replica(const std::string& name) const {
        Superblock block;
        block.volume = random_id<VolumeId>();
        block.volume_name = name;
        block.node = "alpha";
        block.peer = "beta";
        block.size = volume_size;
        block.state = ReplicaState::up_to_date;
        block.session = random_id<SessionId>();
        for (std::size_t i = 0; i < Lineage::capacity; ++i) {
            block.lineage.begin(random_id<GenerationId>(), WallTime(std::chrono::seconds(i)),
                                "alpha", GenerationReason::peer_lost);
        }
        REQUIRE(create_backing_file(dir.file(name + ".img"), volume_size));
        REQUIRE(create_meta(meta_path(dir.path(), name), block));
    }
    VolumeKeeper& r0() { return *keepers.at("r0"); }
};

/// Found by its pid file and its command line, as an engine is. It never starts again.
class FakeEngine {
  public:
    explicit FakeEngine(const EnginePaths& paths) {
        ::setenv("MIRRORDISK_NBDKIT", "/bin/false", 1);
        ::setenv("MIRRORDISK_PLUGIN", "/bin/false", 1);
        const auto pid =
            spawn({{"sh", "-c", "kill -STOP $$", "engine", paths.socket, "node=alpha", "end"},
                   current_environment()});
        REQUIRE(pid);
        pid_ = *pid;
        // It is there a moment before its command line is.
        REQUIRE(eventually([&] {
            return text_of(fmt::format("/proc/{}/cmdline", pid_)).find(paths.socket) !=
                   std::string::npos;
        }));
        std::ofstream(paths.pid_file) << pid_ << '\n';
    }
    FakeEngine(const FakeEngine&) = delete;
    FakeEngine& operator=(const FakeEngine&) = delete;
    ~FakeEngine() {
        kill();
        ::unsetenv("MIRRORDISK_NBDKIT");
        ::unsetenv("MIRRORDISK_PLUGIN");
    }
    void kill() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
            pid_ = 0;
        }
    }

  private:
    pid_t pid_ = 0;
};

}  // namespace

TEST_CASE("an event that can't be written yet holds nobody who looks at the volume") {
    Alpha alpha({"r0"});
    FakeEngine engine(alpha.r0().paths());
    REQUIRE(alpha.r0().start());
    REQUIRE(alpha.r0().place() == Place::active);

    const Fd log(::open(alpha.events.path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(::flock(log.get(), LOCK_EX) == 0);
    engine.kill();
    REQUIRE(
        eventually([&] { return alpha.r0().facts().failure.find("died") != std::string::npos; }));
    // Had the look waited for the event, that would have been given up by now.
    REQUIRE(::flock(log.get(), LOCK_UN) == 0);
    CHECK(eventually(
        [&] { return text_of(alpha.events.path()).find("engine-died") != std::string::npos; }));
    alpha.r0().stop();
}

TEST_CASE("the supervisor rests while an operation lasts over a dead engine") {
    Alpha alpha({"r0"});
    FakeEngine engine(alpha.r0().paths());
    REQUIRE(alpha.r0().start());
    {
        const auto operation = alpha.r0().begin("attach");
        REQUIRE(operation);
        engine.kill();
        REQUIRE(eventually([&] { return !alpha.r0().engine_is_running(); }));
        // This thread works for so long, however busy the machine is; who spins gets as much.
        const auto others_before = used(CLOCK_PROCESS_CPUTIME_ID) - used(CLOCK_THREAD_CPUTIME_ID);
        const auto until = used(CLOCK_THREAD_CPUTIME_ID) + 300ms;
        while (used(CLOCK_THREAD_CPUTIME_ID) < until) {
        }
        const auto others = used(CLOCK_PROCESS_CPUTIME_ID) - used(CLOCK_THREAD_CPUTIME_ID);
        CHECK(others - others_before < 60ms);
    }
    // Its end wakes the supervisor.
    CHECK(eventually(
        [&] { return text_of(alpha.events.path()).find("engine-died") != std::string::npos; }));
    alpha.r0().stop();
}

TEST_CASE("what a node knows of two hundred volumes with long histories fits into mailboxes") {
    std::vector<std::string> names;
    for (int i = 0; i < 200; ++i) {
        names.push_back(fmt::format("volume-{:03}", i));
    }
    Alpha alpha(names);
    for (const auto& [name, keeper] : alpha.keepers) {
        REQUIRE(keeper->start());
    }
    Requests requests(alpha.context, alpha.keepers, alpha.peers);
    const nbd::Client root{.address = "unix", .uid = 0};
    int pages = 0;
    const auto ask = [&](const Json& request) {
        ++pages;
        const auto answer = requests.handle(request, root);
        if (answer) {
            CHECK(answer->dump().size() < control::mailbox_size - 4096);
        }
        return answer;
    };
    SUBCASE("for the peer") {
        const Json request{
            {"request", "peer-status"}, {"node", "beta"}, {"protocol", control::protocol_version}};
        const auto answer = control::ask_for_pages(ask, request, {"settings", "volumes"});
        REQUIRE(answer);
        CHECK(pages > 1);
        const auto parsed = parse_peer_answer(*answer);
        REQUIRE_MESSAGE(parsed, (parsed ? "" : parsed.error().message));
        CHECK(parsed->volumes.size() == names.size());
        CHECK(parsed->settings.size() == names.size());
        CHECK(parsed->volumes.at("volume-199").summary.lineage.entries().size() ==
              Lineage::capacity);
    }
    SUBCASE("for mirrorctl") {
        const auto answer = control::ask_for_pages(ask, {{"request", "status"}}, {"volumes"});
        REQUIRE(answer);
        REQUIRE(answer->at("volumes").size() == names.size());
        for (std::size_t i = 0; i < names.size(); ++i) {
            CHECK(answer->at("volumes")[i]["name"] == names[i]);
        }
    }
}

TEST_CASE("a keeper that was retired is busy for ever, and the next one has the replica") {
    Alpha alpha({"r0"});
    VolumeKeeper& old = alpha.r0();
    REQUIRE(old.start());
    REQUIRE(old.place() == Place::standby);
    {
        auto operation = old.begin("reload of the configuration");
        REQUIRE(operation);
        old.retire(std::move(*operation));
    }
    const auto again = old.begin("promote");
    REQUIRE_FALSE(again);
    CHECK(again.error().kind == ErrorKind::busy);
    const auto lease = old.replica_now();
    REQUIRE_FALSE(lease);
    CHECK(lease.error().kind == ErrorKind::busy);
    const Homes homes = find_homes(alpha.config, alpha.context.node, {});
    VolumeKeeper& next = alpha.keepers.put(
        std::make_unique<VolumeKeeper>(alpha.context, homes.at("r0"), alpha.peers, alpha.devices));
    REQUIRE(next.start());
    CHECK(&alpha.r0() == &next);
    CHECK(next.place() == Place::standby);
    CHECK(next.replica_now());
    // Whoever still has the old one may ask it anything.
    CHECK(old.name() == "r0");
    CHECK(old.backing_path() == alpha.dir.file("r0.img"));
    (void)old.facts();
}

TEST_CASE("a loop through the keepers has the set of its beginning, and all of them stay") {
    Alpha alpha({"r0", "r1"});
    std::vector<std::string> seen;
    VolumeKeeper* removed = nullptr;
    for (const auto& [name, keeper] : alpha.keepers) {
        seen.push_back(name);
        if (name == "r0") {
            removed = alpha.keepers.at("r1");
            alpha.keepers.remove("r1");
        }
    }
    CHECK(seen == std::vector<std::string>{"r0", "r1"});
    CHECK(alpha.keepers.size() == 1);
    CHECK(alpha.keepers.find("r1") == alpha.keepers.end());
    REQUIRE(removed != nullptr);
    CHECK(removed->name() == "r1");
}

TEST_CASE("readers look at keepers while reloads replace them") {
    Alpha alpha({"r0"});
    REQUIRE(alpha.r0().start());
    std::atomic<bool> done{false};
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; ++i) {
        readers.emplace_back([&] {
            while (!done) {
                for (const auto& [name, keeper] : alpha.keepers) {
                    (void)keeper->place();
                    (void)keeper->backing_path();
                    (void)keeper->replica_now();
                }
            }
        });
    }
    const Homes homes = find_homes(alpha.config, alpha.context.node, {});
    for (int i = 0; i < 20; ++i) {
        auto operation = alpha.r0().begin("reload of the configuration");
        REQUIRE(operation);
        VolumeKeeper& old = alpha.r0();
        if (i % 2 == 0) {
            old.take_home(*operation, homes.at("r0"));
            continue;
        }
        old.retire(std::move(*operation));
        VolumeKeeper& next = alpha.keepers.put(std::make_unique<VolumeKeeper>(
            alpha.context, homes.at("r0"), alpha.peers, alpha.devices));
        CHECK(next.start());
    }
    done = true;
    for (std::thread& reader : readers) {
        reader.join();
    }
    CHECK(alpha.r0().place() == Place::standby);
}
