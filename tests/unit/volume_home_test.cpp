// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/volume_home.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sys/file.h>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "core/base/fd.hpp"
#include "core/base/json.hpp"
#include "daemon/engine_process.hpp"
#include "daemon/pending_settings.hpp"
#include "temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

/// A node before and after its file was edited; what the engines of before were given is there.
struct Scene {
    test::TempDir folder;
    std::string run = folder.path() + "/run";
    std::string state = folder.path() + "/state";

    Scene() { std::filesystem::create_directory(run); }

    [[nodiscard]] Config config(const std::string& extra_keys = "",
                                const std::string& backing = "/old", const std::string& more = "") {
        auto parsed = parse_config(fmt::format(R"(
[node.alpha]
address = "127.0.0.1:1"
run_dir = "{}"
state_dir = "{}"
[node.beta]
address = "127.0.0.1:2"
[volume.r0]
backing.alpha = "{}"
backing.beta = "/b"
{}
{}
)",
                                               run, state, backing, extra_keys, more),
                                   "/etc/mirrordisk/mirrordisk.toml");
        REQUIRE_MESSAGE(parsed, parsed.error().text());
        return *parsed;
    }

    /// As an engine of `config` was started.
    RunningEngine start(const Config& config, const std::string& volume = "r0") {
        const NodeConfig& node = config.nodes.at("alpha");
        const VolumeHome home = homes(config).at(volume);
        const EnginePaths paths = EnginePaths::of(node, volume);
        REQUIRE(write_engine_config(paths.settings, home.engine_config(config.tls)));
        std::ofstream(paths.marker) << "";
        return {4711, volume, "alpha", paths.socket, paths.settings};
    }
    static Homes homes(const Config& config, const std::vector<RunningEngine>& engines = {}) {
        return find_homes(config, config.nodes.at("alpha"), engines);
    }
    void end(const std::string& volume = "r0") const {
        std::filesystem::remove(run + "/" + volume + ".active");
    }
};

}  // namespace

TEST_CASE("a volume that is not in use lives where the configuration says") {
    Scene scene;
    std::ignore = scene.start(scene.config());
    scene.end();
    const Config edited = scene.config("", "/new");
    const VolumeHome home = Scene::homes(edited).at("r0");
    CHECK(home.volume.backing.at("alpha") == "/new");
    CHECK(kept_settings(home, edited).empty());
}

TEST_CASE("a volume in use keeps where it lives") {
    Scene scene;
    const RunningEngine engine = scene.start(scene.config("device = \"/dev/nbd0\""));
    const std::string old_state = scene.state;
    scene.state += "2";
    const Config edited = scene.config("peer_timeout = \"9s\"\ndevice = \"/dev/nbd1\"", "/new");
    for (const std::vector<RunningEngine>& engines : {std::vector{engine}, {}}) {
        CAPTURE(engines.size());  // none: it died, and the mark of an active volume is there
        const VolumeHome home = Scene::homes(edited, engines).at("r0");
        CHECK(home.volume.backing.at("alpha") == "/old");
        CHECK(home.volume.backing.at("beta") == "/b");
        CHECK(home.node.state_dir == old_state);
        CHECK(home.volume.device == "/dev/nbd0");
        CHECK(home.volume.peer_timeout.count() == 9000);  // what may change is in force
        const auto kept = kept_settings(home, edited);
        CHECK(kept.size() == 3);
        CHECK(kept.at("backing.alpha") == std::pair<std::string, std::string>("/old", "/new"));
        // An engine that is started now is given all of the home, and of the rest what is in force.
        const auto given = parse_config(home.engine_config(edited.tls), "given");
        REQUIRE(given);
        CHECK(given->volumes.at("r0").backing.at("alpha") == "/old");
        CHECK(given->nodes.at("alpha").state_dir == old_state);
        CHECK(given->volumes.at("r0").peer_timeout.count() == 9000);
    }
}

TEST_CASE("a volume that is known to be in use stays, though engine and files are gone") {
    Scene scene;
    const Config before = scene.config("device = \"/dev/nbd0\"");
    const Homes in_use = Scene::homes(before);
    const Config edited = scene.config("peer_timeout = \"9s\"", "/new",
                                       "[volume.r1]\nbacking.alpha = \"/old\"\n"
                                       "backing.beta = \"/b1\"\n");
    const NodeConfig& alpha = edited.nodes.at("alpha");
    const Homes homes = find_homes(edited, alpha, {}, in_use);
    CHECK(homes.at("r0").volume.backing.at("alpha") == "/old");
    CHECK(homes.at("r0").volume.device == "/dev/nbd0");
    CHECK(homes.at("r0").volume.peer_timeout.count() == 9000);
    CHECK(homes.at("r1").conflict.find("r0") != std::string::npos);
    Config without = edited;
    without.volumes.erase("r0");
    const VolumeHome left = find_homes(without, alpha, {}, in_use).at("r0");
    CHECK_FALSE(left.is_configured);
    CHECK(left.volume.backing.at("alpha") == "/old");
}

TEST_CASE("an engine in the directory of before is found by what it was given") {
    Scene scene;
    const RunningEngine engine = scene.start(scene.config());
    const std::string old_run = scene.run;
    scene.run += "2";
    CHECK(Scene::homes(scene.config(), {engine}).at("r0").node.run_dir == old_run);
    CHECK(Scene::homes(scene.config("", "/new"), {engine}).at("r0").node.run_dir == old_run);
    SUBCASE("but not another node's, nor one of which nothing is the same") {
        RunningEngine other = engine;
        other.node = "gamma";
        CHECK(Scene::homes(scene.config(), {other}).at("r0").node.run_dir == scene.run);
        scene.state += "2";
        CHECK(Scene::homes(scene.config("", "/new"), {engine}).at("r0").node.run_dir == scene.run);
        CHECK(Scene::homes(scene.config(), {engine}).at("r0").node.run_dir == old_run);
    }
    SUBCASE("nor one that another mirrord looks after") {
        const Fd lock(::open((old_run + "/mirrord.lock").c_str(), O_RDWR | O_CREAT, 0644));
        REQUIRE(::flock(lock.get(), LOCK_EX) == 0);
        CHECK(Scene::homes(scene.config(), {engine}).at("r0").node.run_dir == scene.run);
    }
}

TEST_CASE("what an engine reads that was not given its settings says nothing about it") {
    Scene scene;
    RunningEngine engine = scene.start(scene.config());
    engine.config = "/etc/mirrordisk/mirrordisk.toml";
    const Config edited = scene.config("", "/new");
    CHECK(Scene::homes(edited, {engine}).at("r0").volume.backing.at("alpha") == "/new");
}

TEST_CASE("a damaged record is no reason not to start") {
    Scene scene;
    const RunningEngine engine = scene.start(scene.config());
    for (const char* content : {"", "[", "[node.alpha]\naddress = \"127.0.0.1:1\""}) {
        std::ofstream(engine.config) << content;
        CHECK(Scene::homes(scene.config("", "/new"), {engine}).at("r0").is_configured);
    }
}

TEST_CASE("a record that others could have written is not believed") {
    Scene scene;
    const RunningEngine engine = scene.start(scene.config());
    const Config edited = scene.config("", "/new");
    REQUIRE(Scene::homes(edited, {engine}).at("r0").volume.backing.at("alpha") == "/old");
    SUBCASE("by its mode") {
        REQUIRE(::chmod(engine.config.c_str(), 0666) == 0);
    }
    SUBCASE("by a link") {
        std::filesystem::rename(engine.config, engine.config + ".there");
        std::filesystem::create_symlink(engine.config + ".there", engine.config);
    }
    CHECK(Scene::homes(edited, {engine}).at("r0").volume.backing.at("alpha") == "/new");
}

TEST_CASE("an engine that was given nothing by mirrord may be elsewhere, and that is said") {
    Scene scene;
    const Config config = scene.config("", "/new");
    const VolumeHome home = Scene::homes(config).at("r0");
    nlohmann::json engine = engine_settings(config, home.volume, "alpha");
    engine["backing.alpha"] = "/old";
    const auto pending = pending_settings(home, config, engine);
    REQUIRE(pending.size() == 1);
    CHECK(pending[0].used == "/old");
    CHECK(pending[0].reach == Reach::next_role);
}

TEST_CASE("a volume that the file has no more lives on while its engine runs") {
    constexpr const char* second = R"([volume.r1]
device = "/dev/nbd1"
backing.alpha = "/one"
backing.beta = "/two"
)";
    Scene scene;
    const RunningEngine engine = scene.start(scene.config("", "/old", second), "r1");
    const Config edited = scene.config();
    const Homes homes = Scene::homes(edited, {engine});
    REQUIRE(homes.contains("r1"));
    const VolumeHome& home = homes.at("r1");
    CHECK_FALSE(home.is_configured);
    CHECK(homes.at("r0").is_configured);
    CHECK(in_force(edited, homes).volumes.at("r1").device == "/dev/nbd1");
    CHECK(parse_config(home.engine_config(edited.tls), "given"));
    CHECK(pending_words(home, {}, true).find("mirrorctl demote r1") != std::string::npos);
    CHECK_FALSE(Scene::homes(edited).contains("r1"));  // dead: nothing to look after
}

TEST_CASE("what one volume keeps is not another one's") {
    constexpr const char* before = R"(device = "/dev/nbd0"
[volume.r1]
device = "/dev/nbd1"
mount = "/srv/one"
backing.alpha = "/one"
backing.beta = "/two"
)";
    constexpr const char* swapped = R"(device = "/dev/nbd1"
[volume.r1]
device = "/dev/nbd0"
mount = "/srv/one"
backing.alpha = "/old"
backing.beta = "/two"
)";
    Scene scene;
    const RunningEngine engine = scene.start(scene.config(before));
    const Config edited = scene.config(swapped, "/one");
    const Homes homes = Scene::homes(edited, {engine});
    CHECK(homes.at("r0").volume.device == "/dev/nbd0");
    CHECK(homes.at("r0").volume.backing.at("alpha") == "/old");
    CHECK(homes.at("r0").conflict.empty());
    CHECK(homes.at("r1").volume.device.empty());
    CHECK(homes.at("r1").volume.mount.empty());
    CHECK(homes.at("r1").conflict.find("r0") != std::string::npos);
}

TEST_CASE("what an engine is given is written as a whole, for its user alone") {
    test::TempDir folder;
    const std::string path = folder.file("r0.settings");
    const auto old_mask = ::umask(0);
    std::ofstream(path + ".new") << "left behind by a crash";
    REQUIRE(write_engine_config(path, "one"));
    REQUIRE(write_engine_config(path, "two"));
    ::umask(old_mask);
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    std::ifstream file(path);
    CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == "two");
    CHECK_FALSE(std::filesystem::exists(path + ".new"));
    CHECK_FALSE(write_engine_config(folder.path() + "/none/x", "one"));
}

TEST_CASE("a difference is told with both values and the step that is left") {
    Scene scene;
    const Config config = scene.config("disk_timeout = \"9s\"");
    const VolumeHome home = Scene::homes(config).at("r0");
    nlohmann::json engine = engine_settings(config, home.volume, "alpha");
    CHECK(pending_settings(home, config, engine).empty());
    CHECK(pending_words(home, {}, true).empty());
    CHECK(pending_settings(home, config, nullptr).empty());
    engine["disk_timeout"] = "0ms";
    const auto pending = pending_settings(home, config, engine);
    REQUIRE(pending.size() == 1);
    CHECK(
        pending_words(home, pending, true) ==
        "the engine of r0 on alpha was started with other settings: disk_timeout is 0ms there and "
        "9000ms in the configuration; on alpha: mirrorctl restart-engine r0");
    CHECK(encode_pending(pending) == nlohmann::json::parse(R"([{"setting": "disk_timeout",
        "engine": "0ms", "config": "9000ms", "needs": "restart-engine"}])"));
    engine.erase("io_group");
    engine["tls"] = "off";
    engine.erase("psk_file");
    CHECK(pending_settings(home, config, engine).size() == 3);
}

TEST_CASE("where a volume lives is not changed by a new engine, and that is said") {
    Scene scene;
    const RunningEngine engine = scene.start(scene.config());
    const Config edited = scene.config("", "/new");
    const VolumeHome home = Scene::homes(edited, {engine}).at("r0");
    const auto pending = pending_settings(home, edited, nullptr);
    REQUIRE(pending.size() == 1);
    CHECK(pending[0].reach == Reach::next_role);
    CHECK(pending_words(home, pending, true).find("restart-engine") == std::string::npos);
    CHECK(pending_words(home, pending, true).find("mirrorctl switch r0") != std::string::npos);
    CHECK(pending_step(home, pending, false) == "restart mirrord on alpha");
}
