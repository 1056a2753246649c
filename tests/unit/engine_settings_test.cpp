// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/engine_settings.hpp"

#include <doctest/doctest.h>

using namespace mirror;

namespace {

constexpr const char* everything = R"(
tls = "x509"
x509_dir = "/etc/other/x509"
psk_file = "/etc/other/key"
[node.alpha]
address = "[fe80::1%eth0]:1"
run_dir = "/run/a b"
state_dir = "/var/a\"quoted\\"
[node.beta]
address = "127.0.0.1:2"
[node.gamma]
address = "127.0.0.1:3"
[volume."r0.x"]
size = "64MiB"
device = "/dev/nbd3"
mount = "/srv/a"
mount_options = "noatime,'x'"
io_group = "kvm"
active_at_boot = "beta"
hook_timeout = "7s"
peer_timeout = "2500ms"
disk_timeout = "3s"
on_peer_loss = "stop"
verify_rate = "1MiB"
backing.alpha = "/disks/\u00e4 new\nline"
backing.beta = "/dev/disk/by-id/b"
[volume.r1]
backing.beta = "/b1"
backing.gamma = "/c1"
)";

Config parsed(const std::string& text) {
    auto config = parse_config(text, "/etc/mirrordisk/mirrordisk.toml");
    REQUIRE_MESSAGE(config, config.error().text());
    return *config;
}

Config with(const std::string& from, const std::string& to) {
    std::string text = everything;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return parsed(text.replace(at, from.size(), to));
}

using Settings = std::map<std::string, std::string>;

Settings settings_of(const Config& config) {
    return engine_settings(config, config.volumes.at("r0.x"), "alpha");
}

Settings taken(const Config& wanted) {
    return settings_of(take_at_once(parsed(everything), wanted, "r0.x", "alpha"));
}

}  // namespace

TEST_CASE("what an engine is given says all that the configuration says of its volume") {
    const Config whole = parsed(everything);
    const auto given = parse_config(engine_config(whole, whole.volumes.at("r0.x")), "/run/given");
    REQUIRE_MESSAGE(given, given.error().text());
    CHECK(given->volumes.size() == 1);
    CHECK(given->nodes.size() == 2);
    CHECK(settings_of(*given) == settings_of(whole));
    const VolumeConfig& volume = given->volumes.at("r0.x");
    CHECK(volume.shared_settings() == whole.volumes.at("r0.x").shared_settings());
    CHECK(volume.size == std::uint64_t{64} << 20);
    CHECK(volume.backing.at("alpha") == "/disks/\u00e4 new\nline");
    CHECK(volume.mount == "/srv/a");
    CHECK(volume.mount_options == "noatime,'x'");
    CHECK(volume.active_at_boot == "beta");
    CHECK(volume.hook_timeout.count() == 7000);
    CHECK(given->nodes.at("alpha").state_dir == "/var/a\"quoted\\");
    CHECK(given->nodes.at("alpha").address == whole.nodes.at("alpha").address);
    CHECK(given->tls.psk_file == "/etc/other/key");
    CHECK(given->tls.x509_dir == "/etc/other/x509");
}

TEST_CASE("what the configuration leaves to its defaults reaches the engine as that") {
    const Config whole = parsed(R"(
[node.alpha]
address = "127.0.0.1:1"
[node.beta]
address = "127.0.0.1:2"
[volume.r0]
backing.alpha = "/a"
backing.beta = "/b"
)");
    const auto given = parse_config(engine_config(whole, whole.volumes.at("r0")), "/elsewhere/x");
    REQUIRE_MESSAGE(given, given.error().text());
    CHECK(given->tls.mode == TlsMode::psk);
    CHECK(given->tls.psk_file ==
          "/etc/mirrordisk/cluster.psk");  // beside the file, not beside this
    CHECK(!given->volumes.at("r0").size);
    CHECK(engine_settings(*given, given->volumes.at("r0"), "alpha") ==
          engine_settings(whole, whole.volumes.at("r0"), "alpha"));
    const auto off = with("tls = \"x509\"", "tls = \"off\"\ni_know_this_network_is_private = true");
    CHECK(parse_config(engine_config(off, off.volumes.at("r0.x")), "/run/given"));
}

TEST_CASE("an engine takes at once whatever does not move its data or its process") {
    const struct {
        const char* from;
        const char* to;
        const char* setting;
        const char* value;
    } changes[] = {
        {"127.0.0.1:2", "127.0.0.2:5", "address.beta", "127.0.0.2:5"},
        {"[fe80::1%eth0]:1", "127.0.0.9:1", "address.alpha", "127.0.0.9:1"},
        {"2500ms", "9s", "peer_timeout", "9000ms"},
        {"\"stop\"", "\"continue\"", "on_peer_loss", "continue"},
        {"1MiB", "2MiB", "verify_rate", "2097152"},
        {"/etc/other/x509", "/etc/new", "x509_dir", "/etc/new"},
        {"\"x509\"", "\"psk\"", "tls", "psk"},
        {"by-id/b", "by-id/c", "backing.beta", "/dev/disk/by-id/c"},
        {"nbd3", "nbd4", "device", "/dev/nbd4"},
    };
    for (const auto& change : changes) {
        CAPTURE(change.setting);
        const Settings after = taken(with(change.from, change.to));
        CHECK(after.at(change.setting) == change.value);
        CHECK(after == settings_of(with(change.from, change.to)));
        CHECK(reach_of(change.setting, "alpha") == Reach::at_once);
    }
}

TEST_CASE("where the data are, and what the process began with, stay as they are") {
    const struct {
        const char* from;
        const char* to;
        const char* setting;
        Reach reach;
    } changes[] = {
        {"new\\nline", "other", "backing.alpha", Reach::next_role},
        {"/run/a b", "/run/c", "run_dir", Reach::next_role},
        {"/var/a", "/var/b", "state_dir", Reach::next_role},
        {"\"3s\"", "\"4s\"", "disk_timeout", Reach::next_engine},
        {"kvm", "libvirt", "io_group", Reach::next_engine},
    };
    const Settings before = settings_of(parsed(everything));
    for (const auto& change : changes) {
        CAPTURE(change.setting);
        const Config wanted = with(change.from, change.to);
        CHECK(settings_of(wanted).at(change.setting) != before.at(change.setting));
        CHECK(taken(wanted) == before);
        CHECK(reach_of(change.setting, "alpha") == change.reach);
    }
    CHECK(reach_of("node", "alpha") == Reach::next_role);
    CHECK(reach_of("backing.alpha", "beta") == Reach::at_once);
}

TEST_CASE("nothing is taken of a configuration for other nodes") {
    Config wanted = parsed(everything);
    VolumeConfig& volume = wanted.volumes.at("r0.x");
    volume.peer_timeout = std::chrono::milliseconds(9000);
    volume.backing = {{"alpha", "/disks/a"}, {"gamma", "/c"}};
    volume.address = {{"alpha", wanted.nodes.at("alpha").address},
                      {"gamma", wanted.nodes.at("gamma").address}};
    CHECK(taken(wanted) == settings_of(parsed(everything)));
}
