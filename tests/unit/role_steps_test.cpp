// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/role_steps.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace mirror::daemon;

namespace {

/// A machine with one device; notes what is done to it.
class FakeMounter final : public Mounter {
  public:
    std::vector<std::string> points;  ///< of the device
    std::string within;               ///< a mount of somebody else
    Content found = Content::filesystem;
    std::string mount_error;
    std::string unmount_error;
    std::string in_use_by;
    std::vector<std::string>* done = nullptr;

    std::vector<std::string> mount_points(const std::string&) override { return points; }
    std::string resolved(const std::string& directory) override { return directory; }
    std::string mounted_within(const std::string&, const std::string&) override { return within; }
    Content content(const std::string&) override { return found; }
    Result<void> mount(const std::string& device, const std::string& directory,
                       const std::string& options) override {
        done->push_back(fmt::format("mount {} {} {}", device, directory, options));
        if (!mount_error.empty()) {
            return fail(ErrorKind::io, "{}", mount_error);
        }
        points.push_back(directory);
        return {};
    }
    Result<void> unmount(const std::string& directory) override {
        done->push_back("umount " + directory);
        if (!unmount_error.empty()) {
            return fail(ErrorKind::io, "{}", unmount_error);
        }
        points.erase(std::find(points.begin(), points.end(), directory));
        return {};
    }
    std::string users(const std::string&) override { return in_use_by; }
};

struct Scene {
    test::TempDir dir;
    VolumeConfig config;
    FakeMounter mounter;
    std::vector<std::string> done;    ///< hooks and mounts, in their order
    std::vector<std::string> events;  ///< ids
    std::vector<std::string> errors;  ///< causes of `mount-failed`
    std::string folder = dir.path() + "/hooks.d";

    Scene() {
        config.name = "r0";
        config.device = "/dev/nbd0";
        config.mount = "/srv/data";
        config.mount_options = "noatime";
        mounter.done = &done;
        std::filesystem::create_directory(folder);
        ::chmod(folder.c_str(), 0755);
    }
    void add_hook(const std::string& body) const {
        const std::string path = folder + "/10-hook";
        std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
        ::chmod(path.c_str(), 0755);
    }
    RoleSteps steps() {
        HookRunner hooks(
            folder, {.volume = "r0", .device = config.device, .mount = config.mount},
            std::chrono::seconds(30),
            [this](const HookOutcome& outcome) {
                done.push_back(fmt::format("hook {}", to_string(outcome.occasion)));
            },
            [](const std::string&) {});
        return {config, "alpha", mounter, std::move(hooks),
                [this](const std::string& id, Severity, const std::string&,
                       const std::string& cause, const std::string&) {
                    events.push_back(id);
                    if (id == "mount-failed") {
                        errors.push_back(cause);
                    }
                }};
    }
};

using Steps = std::vector<std::string>;

}  // namespace

TEST_CASE_FIXTURE(Scene, "before a demotion the hooks run, then the device is unmounted") {
    add_hook("true");
    mounter.points = {"/srv/data"};
    RoleSteps steps = this->steps();
    CHECK(steps.before_demote().has_value());
    steps.after_demote();
    CHECK(done == Steps{"hook before-demote", "umount /srv/data", "hook after-demote"});
    CHECK(mounter.points.empty());
    CHECK(events == Steps{"unmounted"});
}

TEST_CASE_FIXTURE(Scene, "after a promotion the device is mounted, then the hooks run") {
    add_hook("true");
    RoleSteps steps = this->steps();
    CHECK(steps.before_promote(false).has_value());
    CHECK(steps.after_promote(true).empty());
    CHECK(done ==
          Steps{"hook before-promote", "mount /dev/nbd0 /srv/data noatime", "hook after-promote"});
    CHECK(events == Steps{"mounted"});
    CHECK(!steps.lacks_mount());
}

TEST_CASE_FIXTURE(Scene, "a mount that is busy refuses the demotion and names who holds it") {
    add_hook("true");
    mounter.points = {"/srv/data"};
    mounter.unmount_error = "target is busy";
    mounter.in_use_by = "postgres (pid 4711, /srv/data/x is open)";
    RoleSteps steps = this->steps();
    const auto ready = steps.before_demote();
    REQUIRE(!ready.has_value());
    CHECK(ready.error().kind == ErrorKind::busy);
    CHECK(ready.error().message ==
          "r0 is not demoted on alpha: /srv/data is in use by postgres (pid 4711, /srv/data/x is "
          "open)");
    CHECK(done == Steps{"hook before-demote", "umount /srv/data", "hook demote-cancelled"});
    CHECK(mounter.points == Steps{"/srv/data"});
    CHECK(events == Steps{"demotion-refused"});
}

TEST_CASE_FIXTURE(Scene, "an unmount that fails without a visible user says what umount said") {
    mounter.points = {"/srv/data"};
    mounter.unmount_error = "target is busy";
    const auto ready = steps().before_demote();
    REQUIRE(!ready.has_value());
    CHECK(ready.error().message.find("target is busy") != std::string::npos);
}

TEST_CASE_FIXTURE(Scene, "a mount of somebody else is named and nothing is unmounted") {
    mounter.points = {"/srv/data"};
    SUBCASE("of the device, elsewhere") {
        mounter.points.emplace_back("/mnt");
        const auto ready = steps().before_demote();
        REQUIRE(!ready.has_value());
        CHECK(ready.error().message.find("/dev/nbd0 is mounted on /mnt") != std::string::npos);
        CHECK(ready.error().remedy == "umount /mnt");
    }
    SUBCASE("of something else, below it") {
        mounter.within = "/srv/data/sub";
        const auto ready = steps().before_demote();
        REQUIRE(!ready.has_value());
        CHECK(ready.error().remedy == "umount /srv/data/sub");
    }
    CHECK(done.empty());
}

TEST_CASE_FIXTURE(Scene, "a hook may unmount what mirrord must not") {
    mounter.points = {"/srv/data"};
    config.mount.clear();
    config.mount_options.clear();
    CHECK(steps().before_demote().has_value());  // the device itself is asked later
    CHECK(done.empty());
}

TEST_CASE_FIXTURE(Scene, "a demotion that fails later on mounts again and tells the hooks") {
    add_hook("true");
    mounter.points = {"/srv/data"};
    RoleSteps steps = this->steps();
    REQUIRE(steps.before_demote().has_value());
    steps.demote_cancelled();
    CHECK(done == Steps{"hook before-demote", "umount /srv/data",
                        "mount /dev/nbd0 /srv/data noatime", "hook demote-cancelled"});
    CHECK(mounter.points == Steps{"/srv/data"});
}

TEST_CASE_FIXTURE(Scene,
                  "a mount whose engine is dead is not touched, unless it is to be cut off") {
    using Service = RoleSteps::Service;
    mounter.points = {"/srv/data"};
    SUBCASE("refused") {
        const auto ready = steps().before_demote(Service::dead);
        REQUIRE(!ready.has_value());
        CHECK(ready.error().remedy.find("--disconnect-clients") != std::string::npos);
        CHECK(done.empty());
    }
    SUBCASE("unmounted when its device is gone") {
        RoleSteps steps = this->steps();
        REQUIRE(steps.before_demote(Service::cut_off).has_value());
        CHECK(done.empty());
        steps.after_demote();
        CHECK(done == Steps{"umount /srv/data"});
    }
    SUBCASE("or told about") {
        mounter.unmount_error = "target is busy";
        mounter.in_use_by = "bash (pid 1, working directory)";
        RoleSteps steps = this->steps();
        REQUIRE(steps.before_demote(Service::cut_off).has_value());
        steps.after_demote();
        CHECK(events == Steps{"mount-failed"});
    }
    SUBCASE("what is not mounted does not matter") {
        mounter.points.clear();
        CHECK(steps().before_demote(Service::dead).has_value());
    }
}

TEST_CASE_FIXTURE(Scene, "nobody is told to make a filesystem where one was mounted a moment ago") {
    mounter.points = {"/srv/data"};
    RoleSteps steps = this->steps();
    REQUIRE(steps.before_demote().has_value());
    mounter.mount_error = "can't read superblock";
    mounter.found = Content::empty;  // as a device looks that is not attached
    steps.demote_cancelled();
    REQUIRE(errors.size() == 1);
    CHECK(errors[0] == "can't read superblock");
}

TEST_CASE_FIXTURE(Scene, "a dry run sees who uses the mount") {
    mounter.in_use_by = "bash (pid 1, working directory)";
    CHECK(steps().require_no_users().has_value());
    mounter.points = {"/srv/data"};
    CHECK(!steps().require_no_users().has_value());
}

TEST_CASE_FIXTURE(Scene, "a demotion of what was not mounted mounts nothing when it fails") {
    RoleSteps steps = this->steps();
    REQUIRE(steps.before_demote().has_value());
    steps.demote_cancelled();
    CHECK(done.empty());
}

TEST_CASE_FIXTURE(Scene, "a hook that refuses keeps the mount") {
    add_hook("[ $1 != before-demote ]");
    mounter.points = {"/srv/data"};
    const auto ready = steps().before_demote();
    REQUIRE(!ready.has_value());
    CHECK(ready.error().kind == ErrorKind::refused);
    CHECK(done == Steps{"hook before-demote", "hook demote-cancelled"});
    CHECK(mounter.points == Steps{"/srv/data"});
}

TEST_CASE_FIXTURE(Scene, "a device without a filesystem is told of with the way to make one") {
    add_hook("true");
    mounter.mount_error = "wrong fs type";
    mounter.found = Content::empty;
    const std::string words = steps().after_promote(true);
    CHECK(words.find("/dev/nbd0 has no filesystem yet") != std::string::npos);
    CHECK(words.find("mkfs.ext4 /dev/nbd0, then mirrorctl promote r0") != std::string::npos);
    CHECK(words.find("hooks were not run") != std::string::npos);
    CHECK(done == Steps{"mount /dev/nbd0 /srv/data noatime"});  // and no hook without its data
    CHECK(events == Steps{"mount-failed"});
}

TEST_CASE_FIXTURE(Scene, "what is on the device and can't be mounted is told in mount's words") {
    mounter.mount_error = "wrong fs type";
    const std::string words = steps().after_promote(true);
    CHECK(words.find("wrong fs type") != std::string::npos);
    CHECK(words.find("mkfs") == std::string::npos);
}

TEST_CASE_FIXTURE(Scene, "nothing is mounted without its device, over another mount, or twice") {
    SUBCASE("not attached") {
        CHECK(steps().after_promote(false).find("/dev/nbd0 is not attached") != std::string::npos);
    }
    SUBCASE("something else is there") {
        mounter.within = "/srv/data";
        CHECK(steps().after_promote(true).find("something else is mounted on /srv/data") !=
              std::string::npos);
    }
    SUBCASE("mounted already") {
        mounter.points = {"/srv/data"};
        CHECK(steps().after_promote(true).empty());
    }
    CHECK(done.empty());
}

TEST_CASE_FIXTURE(Scene, "a mount that an earlier role has left refuses the promotion") {
    add_hook("true");
    mounter.points = {"/srv/data"};
    RoleSteps steps = this->steps();
    const auto ready = steps.before_promote(false);
    REQUIRE(!ready.has_value());
    CHECK(ready.error().message.find("is still mounted on /srv/data") != std::string::npos);
    CHECK(done.empty());
    CHECK(steps.before_promote(true).has_value());  // the volume goes on where it was
}

TEST_CASE_FIXTURE(Scene, "a promotion that a hook refuses tells the hooks") {
    add_hook("echo no room; [ $1 != before-promote ]");
    const auto ready = steps().before_promote(false);
    REQUIRE(!ready.has_value());
    CHECK(ready.error().message.find("r0 is not promoted on alpha: hook 10-hook") == 0);
    CHECK(ready.error().message.find("no room") != std::string::npos);
    CHECK(done == Steps{"hook before-promote", "hook promote-cancelled"});
    CHECK(events == Steps{"promotion-refused"});
}

TEST_CASE_FIXTURE(Scene, "a plan names the mount and the hooks") {
    CHECK(steps().promotion_plan() == Steps{"mount it on /srv/data"});
    CHECK(steps().demotion_plan().empty());
    mounter.points = {"/srv/data"};
    add_hook("true");
    const Steps plan = steps().demotion_plan();
    REQUIRE(plan.size() == 2);
    CHECK(plan[0].find(folder) != std::string::npos);
    CHECK(plan[1] == "unmount /srv/data");
}

TEST_CASE("the kernel's table of mounts is read, blanks and all") {
    const auto mounts = parse_mounts(
        "36 35 43:0 / /srv/my\\040data rw,noatime shared:1 - ext4 /dev/nbd0 rw\n"
        "37 35 0:21 / /run rw - tmpfs tmpfs rw\n"
        "garbage\n");
    REQUIRE(mounts.size() == 2);
    CHECK(mounts[0].major == 43);
    CHECK(mounts[0].minor == 0);
    CHECK(mounts[0].directory == "/srv/my data");
    CHECK(mounts[0].source == "/dev/nbd0");
    CHECK(mounts[1].directory == "/run");
}
