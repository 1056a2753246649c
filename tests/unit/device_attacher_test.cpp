// SPDX-License-Identifier: BSD-3-Clause
// The attacher's decisions, with a driver and an engine that are made up.
#include <algorithm>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <iterator>
#include <utility>

#include <doctest/doctest.h>

#include "daemon/device/attacher.hpp"
#include "daemon/device/stall_watch.hpp"
#include "daemon/device/timing.hpp"
#include "temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;
using namespace std::chrono_literals;

namespace {

struct ManualClock final : Clock {
    SteadyTime now{1h};
    [[nodiscard]] WallTime wall_now() const override { return {}; }
    [[nodiscard]] SteadyTime steady_now() const override { return now; }
};

struct FakeDriver final : NbdDriver {
    std::optional<Attachment> attached;
    std::size_t dead = 0;  ///< connections
    Setup last{};
    std::chrono::milliseconds replay_after{30s};
    int connects = 0;
    int disconnects = 0;
    int blind = 0;  ///< so many calls pass before the kernel notices that connections are dead
    std::function<void()> after_reconfigure{};  ///< before the attacher notes what it has done
    bool in_use = false;                        ///< stays there after disconnect()

    std::optional<Attachment> attachment(DeviceIndex) const override { return attached; }
    Result<void> require_present(DeviceIndex) const override { return {}; }
    Result<void> connect(DeviceIndex, const Setup& setup, std::vector<Fd> sockets) override {
        ++connects;
        last = setup;
        attached = Attachment{setup.backend, static_cast<unsigned>(sockets.size())};
        return {};
    }
    Result<std::size_t> reconfigure(DeviceIndex, const Setup& setup,
                                    std::vector<Fd> sockets) override {
        last = setup;
        if (blind > 0) {
            --blind;
            return 0;
        }
        const std::size_t taken = std::min(dead, sockets.size());
        dead -= taken;
        if (const auto act = std::exchange(after_reconfigure, {})) {
            act();
        }
        return taken;
    }
    Result<void> set_replay_after(DeviceIndex, std::chrono::milliseconds time) override {
        replay_after = time;
        return {};
    }
    Result<Fd> claim(DeviceIndex) const override {
        if (in_use) {
            return fail(ErrorKind::busy, "/dev/nbd0 is mounted on /srv");
        }
        return Fd();
    }
    Result<void> disconnect(DeviceIndex) override {
        ++disconnects;
        if (!in_use) {
            attached.reset();
        }
        return {};
    }
};

struct FakeDialler final : EngineDialler {
    std::uint64_t size = 4096;
    bool refuses = false;
    int dials = 0;

    Result<EngineConnections> dial(const std::string&, const std::string&,
                                   unsigned count) override {
        ++dials;
        if (refuses) {
            return fail(ErrorKind::unreachable, "nobody listens");
        }
        EngineConnections result{.size = size, .flags = 1};
        for (unsigned each = 0; each < count; ++each) {
            result.sockets.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        }
        return result;
    }
};

struct Scene {
    test::TempDir folder;
    ManualClock clock;
    Config config = make_config();
    EventLog events{folder.file("events.jsonl"), "alpha", clock};
    Context context{config, config.nodes.at("alpha"), clock, events};
    FakeDriver driver;
    FakeDialler dialler;
    NbdAttacher devices{context, driver, dialler};

    static Config make_config() {
        Config config;
        config.nodes["alpha"].name = "alpha";
        config.nodes["beta"].name = "beta";
        VolumeConfig& volume = config.volumes["r0"];
        volume.name = "r0";
        volume.device = "/dev/nbd0";
        volume.backing = {{"alpha", "/a.img"}, {"beta", "/b.img"}};
        return config;
    }

    Result<void> attach() { return devices.attach("/dev/nbd0", "/run/r0.sock", "r0"); }
    auto look_after() { return devices.look_after("/dev/nbd0"); }
    void link_dies() {
        driver.dead = 1;
        devices.note_link_dead("/dev/nbd0");
    }
    [[nodiscard]] bool has_event(const std::string& id) const {
        std::ifstream file(events.path());
        const std::string text(std::istreambuf_iterator<char>(file), {});
        return text.find("\"" + id + "\"") != std::string::npos;
    }
};

}  // namespace

TEST_CASE("the kernel looks often whether a request is to be sent again, and less often at waits") {
    VolumeConfig volume = Scene::make_config().volumes.at("r0");
    CHECK(usual_replay_after(volume) == 2s);
    volume.on_peer_loss = OnPeerLoss::stop;
    CHECK(usual_replay_after(volume) == 10s);
}

TEST_CASE("a device that is free is attached with the volume's name and timeout") {
    Scene scene;
    CHECK(scene.devices.state("/dev/nbd0") == "detached");
    REQUIRE(scene.attach());
    CHECK(scene.driver.last.backend == "r0");
    CHECK(scene.driver.replay_after == 2s);
    CHECK(scene.driver.last.size == 4096);
    CHECK(scene.devices.is_attached("/dev/nbd0"));
    CHECK(scene.devices.state("/dev/nbd0") == "attached");
    CHECK_FALSE(scene.look_after());
}

TEST_CASE("attaching again only gives the device what it lacks") {
    Scene scene;
    REQUIRE(scene.attach());
    scene.dialler.size = 8192;
    REQUIRE(scene.attach());
    CHECK(scene.driver.connects == 1);
    CHECK(scene.driver.last.size == 8192);
}

TEST_CASE("another's device is left alone, and named") {
    Scene scene;
    scene.driver.attached = NbdDriver::Attachment{"photos", 1};
    const auto refused = scene.attach();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind == ErrorKind::busy);
    CHECK(refused.error().message == "/dev/nbd0 is attached to photos already");
    CHECK(scene.devices.state("/dev/nbd0") == "foreign");
    CHECK_FALSE(scene.devices.is_attached("/dev/nbd0"));
    CHECK(scene.devices.detach("/dev/nbd0"));
    CHECK(scene.devices.drop("/dev/nbd0") == false);
    CHECK(scene.driver.disconnects == 0);
}

TEST_CASE("a new engine takes every connection, also when the kernel notices late") {
    Scene scene;
    REQUIRE(scene.attach());
    REQUIRE(scene.devices.set_replay_after("/dev/nbd0", 500ms));
    CHECK(scene.driver.replay_after == 500ms);
    scene.devices.engine_gone("/dev/nbd0");
    CHECK(scene.devices.state("/dev/nbd0") == "reconnecting");
    scene.driver.dead = scene.driver.attached->connections;
    scene.driver.blind = 3;
    CHECK_FALSE(scene.look_after());
    CHECK(scene.driver.dead == 0);
    CHECK(scene.driver.replay_after == 2s);
    CHECK(scene.devices.state("/dev/nbd0") == "attached");
    CHECK(scene.has_event("device-reconnected"));
}

TEST_CASE("an engine that does not answer is tried again, later and later") {
    Scene scene;
    REQUIRE(scene.attach());
    scene.devices.engine_gone("/dev/nbd0");
    scene.dialler.refuses = true;
    CHECK(scene.look_after() == 200ms);
    CHECK_FALSE(scene.has_event("device-reconnect-failed"));
    const int dials = scene.dialler.dials;
    CHECK(scene.look_after() == 200ms);
    CHECK(scene.dialler.dials == dials);  // not yet
    scene.clock.now += 200ms;
    CHECK(scene.look_after() == 400ms);
    CHECK(scene.has_event("device-reconnect-failed"));
    scene.dialler.refuses = false;
    scene.driver.dead = scene.driver.attached->connections;
    scene.clock.now += 400ms;
    CHECK_FALSE(scene.look_after());
    CHECK(scene.devices.state("/dev/nbd0") == "attached");
}

TEST_CASE("a connection that a living engine has lost is renewed, but not without pause") {
    Scene scene;
    REQUIRE(scene.attach());
    scene.link_dies();
    CHECK_FALSE(scene.look_after());
    CHECK(scene.driver.dead == 0);
    scene.link_dies();
    CHECK(scene.look_after() == 200ms);
    scene.clock.now += 200ms;
    CHECK_FALSE(scene.look_after());
    CHECK(scene.driver.dead == 0);
}

TEST_CASE("a device in use stays; dropping it asks nobody") {
    Scene scene;
    REQUIRE(scene.attach());
    scene.driver.in_use = true;
    CHECK(scene.devices.require_unused("/dev/nbd0").error().kind == ErrorKind::busy);
    CHECK(scene.devices.detach("/dev/nbd0").error().message == "/dev/nbd0 is mounted on /srv");
    CHECK(scene.driver.disconnects == 0);
    CHECK(scene.devices.drop("/dev/nbd0") == true);
    CHECK(scene.driver.disconnects == 1);
    scene.devices.engine_gone("/dev/nbd0");
    CHECK_FALSE(scene.look_after());
    CHECK(scene.devices.state("/dev/nbd0") == "dropped");
    CHECK_FALSE(scene.devices.is_attached("/dev/nbd0"));
    // Who used it is told by its errors, and must let it go before the volume comes back.
    CHECK(scene.attach().error().message == "/dev/nbd0 is mounted on /srv");
    scene.driver.in_use = false;
    scene.driver.attached.reset();
    CHECK(scene.attach());
    CHECK(scene.devices.state("/dev/nbd0") == "attached");
}

TEST_CASE("a restarted mirrord looks after what is attached, and after nothing else") {
    Scene scene;
    scene.devices.adopt("/dev/nbd0", "/run/r0.sock");
    CHECK_FALSE(scene.look_after());
    CHECK(scene.dialler.dials == 0);
    scene.driver.attached = NbdDriver::Attachment{"r0", 2};
    scene.driver.dead = 1;
    scene.devices.adopt("/dev/nbd0", "/run/r0.sock");
    CHECK_FALSE(scene.look_after());
    CHECK(scene.driver.dead == 0);
}

TEST_CASE("a device that was detached behind our back is said to be lost, once") {
    Scene scene;
    REQUIRE(scene.attach());
    scene.driver.attached.reset();
    scene.devices.note_link_dead("/dev/nbd0");
    CHECK_FALSE(scene.look_after());
    CHECK(scene.has_event("device-lost"));
    CHECK(scene.devices.state("/dev/nbd0") == "detached");
}

TEST_CASE("only devices of the nbd driver have a number") {
    CHECK(index_of_device("/dev/nbd12") == 12U);
    for (const char* other : {"/dev/nbd", "/dev/nbd1p1", "/dev/sda", "nbd0", "/dev/nbd-1"}) {
        CHECK_FALSE(index_of_device(other));
    }
}

TEST_CASE("the block layer's counters are read from kernels old and new") {
    const auto old = StallWatch::parse("  10 0 80 5  20 0 160 9  3  7 14");
    REQUIRE(old);
    CHECK(old->answered == 30);
    CHECK(old->waiting == 3);
    const auto now = StallWatch::parse("10 0 80 5 20 0 160 9 3 7 14 4 0 32 1 6 2");
    REQUIRE(now);
    CHECK(now->answered == 40);
    CHECK_FALSE(StallWatch::parse(""));
}

TEST_CASE("a connection that dies while another one is renewed is renewed, too") {
    Scene scene;
    REQUIRE(scene.attach());
    scene.clock.now += 1s;
    scene.link_dies();
    scene.driver.after_reconfigure = [&] { scene.link_dies(); };
    SUBCASE("by looking after it") {
        REQUIRE(scene.look_after());
    }
    SUBCASE("by attaching it again") {
        REQUIRE(scene.attach());
    }
    CHECK(scene.driver.dead == 1);
    CHECK(scene.devices.state("/dev/nbd0") == "reconnecting");
    scene.clock.now += 1s;
    CHECK_FALSE(scene.look_after());
    CHECK(scene.driver.dead == 0);
    CHECK(scene.devices.state("/dev/nbd0") == "attached");
}

TEST_CASE("an engine that dies while its device is connected to it is not taken for connected") {
    Scene scene;
    REQUIRE(scene.attach());
    scene.clock.now += 1s;
    scene.link_dies();
    scene.driver.after_reconfigure = [&] {
        scene.driver.dead = 1;
        scene.devices.engine_gone("/dev/nbd0");
    };
    REQUIRE(scene.look_after());
    scene.clock.now += 1s;
    CHECK_FALSE(scene.look_after());
    CHECK(scene.driver.dead == 0);
}
