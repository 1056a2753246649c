// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/config.hpp"

#include <fstream>
#include <stdlib.h>

#include <doctest/doctest.h>

#include "core/base/units.hpp"
#include "core/config/control_group.hpp"
#include "core/config/mistakes.hpp"
#include "core/config/own_names.hpp"
#include "core/config/this_node.hpp"
#include "core/control/mailbox.hpp"
#include "tests/unit/temp_dir.hpp"

using namespace mirror;
using namespace std::chrono_literals;

namespace {

const std::string nodes = R"([node.alpha]
address = "10.0.0.1:10809"
[node.beta]
address = "10.0.0.2:10809"
)";
const std::string r0 = R"([volume.r0]
backing.alpha = "/srv/a.img"
backing.beta = "/srv/b.img"
)";  // from line 5 on, after the nodes; what a test appends stands on line 8

/// The first mistake of the text.
std::string refusal(const std::string& text) {
    const auto config = read_config(text, "m.toml");
    return config ? "accepted" : config.error().front().error.text();
}

/// The same for one more line in [volume.r0].
std::string refusal_of_line(const std::string& line) {
    return refusal(nodes + r0 + line + "\n");
}

}  // namespace

TEST_CASE("the control group stands above the tables") {
    CHECK(parse_config(nodes + r0, "m.toml")->control_group.empty());
    CHECK(parse_config("control_group = \"disk-operators\"\n" + nodes + r0, "m.toml")
              ->control_group == "disk-operators");
    for (const char* wrong : {"\"\"", "\"a b\"", "\"a:b\"", "7", "[\"a\"]"}) {
        CAPTURE(wrong);
        const std::string said = refusal(fmt::format("control_group = {}\n", wrong) + nodes + r0);
        CHECK(said.find("m.toml:1: control_group: ") == 0);
    }
    CHECK(refusal("control_grup = \"a\"\n" + nodes).find("control_group, node.NAME") !=
          std::string::npos);
}

TEST_CASE("a group that this machine lacks is named, with the key and what to do") {
    Config config{.path = "m.toml"};
    CHECK(find_control_group(config).value() == std::nullopt);
    config.control_group = "root";
    CHECK(find_control_group(config).value() == gid_t{0});
    config.control_group = "no-such-group";
    const auto missing = find_control_group(config);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().text() ==
          "m.toml: control_group: 'no-such-group' is not a group on this machine; groupadd "
          "--system no-such-group, or remove the key");
}

TEST_CASE("a whole configuration is read") {
    const Result<Config> config = parse_config(R"(
        [volume.r0]                       # before the nodes that it names
        size = "10GiB"
        mode = "sync"
        device = "/dev/nbd0"
        peer_timeout = "250ms"
        on_peer_loss = "stop"
        verify_rate = "5MiB"
        backing.alpha = "/srv//x/../r0.img"
        backing.beta = "/srv/r0.img"
        [node.alpha]
        address = "10.0.0.1:10809"
        run_dir = "/tmp/a/"
        state_dir = "/tmp/b"
        [node.beta]
        address = "[fe80::2%eth0]:1"
    )",
                                               "m.toml");
    REQUIRE(config.has_value());
    const NodeConfig& alpha = *config->node("alpha").value();
    CHECK(alpha.name == "alpha");
    CHECK(alpha.daemon_socket() == "/tmp/a/mirrord.sock");
    CHECK(alpha.state_dir == "/tmp/b");
    const NodeConfig& beta = *config->node("beta").value();
    CHECK(beta.address == Endpoint{"fe80::2%eth0", 1});
    CHECK(beta.address.text() == "[fe80::2%eth0]:1");
    CHECK(beta.run_dir == "/run/mirrordisk");
    const VolumeConfig& volume = *config->volume("r0").value();
    CHECK(volume.size == 10 * GiB);
    CHECK(volume.device == "/dev/nbd0");
    CHECK(volume.peer_timeout == 250ms);
    CHECK(volume.on_peer_loss == OnPeerLoss::stop);
    CHECK(volume.verify_rate == 5 * MiB);
    CHECK(volume.backing.at("alpha") == "/srv/r0.img");
    CHECK(volume.peer_of("alpha") == "beta");
    CHECK(volume.peer_of("beta") == "alpha");
    CHECK(volume.peer_of("gamma").empty());
}

TEST_CASE("shared settings name every setting, defaults too") {
    const Result<Config> config = parse_config(nodes + r0, "m.toml");
    REQUIRE(config.has_value());
    const std::map<std::string, std::string> expected{
        {"size", ""},
        {"mode", "sync"},
        {"device", ""},
        {"peer_timeout", "5000ms"},
        {"on_peer_loss", "continue"},
        {"backing.alpha", "/srv/a.img"},
        {"backing.beta", "/srv/b.img"},
        {"address.alpha", "10.0.0.1:10809"},
        {"address.beta", "10.0.0.2:10809"},
    };
    CHECK(config->volume("r0").value()->shared_settings() == expected);
}

TEST_CASE("what every node's file has in common is no mistake") {
    CHECK(refusal(nodes) == "accepted");  // no volume yet; the same default directories
    CHECK(refusal(nodes + "[volume.r0]\nbacking.alpha = '/srv/r0'\nbacking.beta = '/srv/r0'\n") ==
          "accepted");
    CHECK(refusal_of_line("size = 1048576") == "accepted");
}

TEST_CASE("a syntax error names its line") {
    CHECK(refusal("[node.alpha]\naddress = \n").starts_with("m.toml:2: "));
    CHECK(refusal(nodes + r0 + "size = 512\nsize = 512\n").starts_with("m.toml:9: "));
}

TEST_CASE("TLS with a key beside the file is the default, and off is refused beyond this machine") {
    const std::string two = "[node.a]\naddress = '127.0.0.1:1'\n[node.b]\naddress = '[::1]:1'\n";
    const auto config = parse_config(two, "/etc/mirrordisk/mirrordisk.toml");
    REQUIRE(config.has_value());
    CHECK(config->tls.mode == TlsMode::psk);
    CHECK(config->tls.psk_file == "/etc/mirrordisk/cluster.psk");
    CHECK(config->tls.x509_dir == "/etc/mirrordisk/x509");
    CHECK(parse_config("tls = 'off'\n" + two, "m.toml")->tls.mode == TlsMode::off);
    for (const char* host : {"10.0.0.2", "beta", "[fe80::1]", "128.0.0.1"}) {
        const std::string far = fmt::format("[node.c]\naddress = '{}:1'\n", host);
        INFO(host);
        const std::string refused = refusal("tls = 'off'\n" + two + far);
        CHECK(refused.starts_with("m.toml:1: tls: \"off\" would send every byte"));
        CHECK(parse_config("tls = 'off'\ni_know_this_network_is_private = true\n" + two + far, "m")
                  .has_value());
        CHECK(parse_config("tls = 'x509'\n" + two + far, "m")->tls.mode == TlsMode::x509);
    }
    CHECK(refusal("tls = 'on'\n" + two) ==
          "m.toml:1: tls: 'on' is not known; take \"psk\" or \"x509\" or \"off\"");
    CHECK(refusal("psk_file = 'k'\n" + two).starts_with("m.toml:1: psk_file: 'k' is not an abs"));
    CHECK(refusal("i_know_this_network_is_private = 'yes'\n" + two).find("true or false") !=
          std::string::npos);
}

TEST_CASE("an unknown key is refused on every level, with the known ones") {
    CHECK(refusal("nodes = 1\n") ==
          "m.toml:1: nodes: unknown key; did you mean node.NAME? known keys are control_group, "
          "node.NAME, volume.NAME, tls, psk_file, x509_dir, crl_required, "
          "i_know_this_network_is_private");
    CHECK(refusal("[node.a]\naddress = 'x:1'\nadress = 'x:1'\n") ==
          "m.toml:3: node.a.adress: unknown key; did you mean address? known keys are address, "
          "run_dir, state_dir, remote_verbs");
    CHECK(refusal_of_line("sise = 512") ==
          "m.toml:8: volume.r0.sise: unknown key; did you mean size? known keys are size, mode, "
          "device, mount, "
          "mount_options, peer_timeout, disk_timeout, hook_timeout, on_peer_loss, verify_rate, "
          "io_group, active_at_boot, remote_verbs, backing.NODE");
}

TEST_CASE("values of the wrong type are refused") {
    CHECK(refusal("node = 1\n") == "m.toml:1: node: must be a table");
    CHECK(refusal("node.a = 1\n") == "m.toml:1: node.a: must be a table");
    CHECK(refusal("[node.a]\naddress = 1\n") ==
          "m.toml:2: node.a.address: must be a string; such as \"10.0.0.1:10809\"");
    CHECK(refusal("volume = []\n" + nodes) == "m.toml:1: volume: must be a table");
    CHECK(refusal(nodes + "[volume]\nr0 = 1\n") == "m.toml:6: volume.r0: must be a table");
    CHECK(refusal(nodes + "[volume.r0]\nbacking = '/x'\n") ==
          "m.toml:6: volume.r0.backing: must name its node; write backing.NODE = \"/PATH\"");
    CHECK(refusal_of_line("peer_timeout = 5")
              .starts_with("m.toml:8: volume.r0.peer_timeout: must be a string"));
    CHECK(refusal_of_line("size = 1.5").starts_with("m.toml:8: volume.r0.size: must be a string "));
    CHECK(refusal_of_line("mode = true").starts_with("m.toml:8: volume.r0.mode: must be a string"));
    CHECK(refusal_of_line("device = 0").starts_with("m.toml:8: volume.r0.device: must be a str"));
}

TEST_CASE("nodes must be there, with an address each") {
    CHECK(refusal("") ==
          "m.toml: node: no node is configured; add [node.NAME] with address = \"HOST:PORT\" "
          "for both machines");
    CHECK(refusal("[node.a]\nrun_dir = '/x'\n") ==
          "m.toml:1: node.a: address is missing; add address = \"HOST:PORT\"");
    CHECK(refusal("[node.a]\naddress = 'h:1'\n[node.b]\naddress = 'h:1'\n") ==
          "m.toml:3: node.b: has the address h:1 of node.a; give each node an address of its own");
    CHECK(refusal("[node.a]\naddress = 'h:1'\nrun_dir = 'run'\n")
              .starts_with("m.toml:3: node.a.run_dir: 'run' is not an absolute path"));
}

TEST_CASE("addresses are checked") {
    for (const char* address : {"", "h", "h:", ":1", "h:0", "h:65536", "h:x", "h:1x", "h:-1",
                                "::1:5", "[::1]", "[h]:1", "[::1:1", "a b:1", "a/b:1"}) {
        CAPTURE(address);
        CHECK(refusal(fmt::format("[node.a]\naddress = '{}'\n", address))
                  .starts_with(
                      fmt::format("m.toml:2: node.a.address: '{}' is not an address", address)));
    }
    for (const char* address : {"0.0.0.0:1", "[::]:1"}) {
        CHECK(refusal(fmt::format("[node.a]\naddress = '{}'\n", address))
                  .find("can't be used; give the address that peers connect to") !=
              std::string::npos);
    }
}

TEST_CASE("names are checked") {
    for (const char* name : {"''", "'-a'", "'a/b'", "'a b'", "'.a'", "'\u00e4'"}) {
        CAPTURE(name);
        CHECK(refusal(fmt::format("[node.{}]\naddress = 'h:1'\n", name))
                  .find("not a valid name of a node") != std::string::npos);
        CHECK(refusal(fmt::format("{}[volume.{}]\n", nodes, name))
                  .find("not a valid name of a volume") != std::string::npos);
    }
    CHECK(is_valid_name(std::string(63, 'a')));
    CHECK_FALSE(is_valid_name(std::string(64, 'a')));
}

TEST_CASE("a volume has backing on exactly two known nodes, by absolute paths") {
    CHECK(
        refusal(nodes + "[volume.r0]\nbacking.alpha = '/x'\n") ==
        "m.toml:5: volume.r0: needs exactly two backing.NODE entries, has 1; write backing.NODE = "
        "\"/PATH\" for each of its two nodes");
    CHECK(refusal(nodes + "[volume.r0]\n").find("backing.NODE entries, has 0") !=
          std::string::npos);
    CHECK(refusal(nodes + r0 + "backing.gamma = '/x'\n[node.gamma]\naddress = 'h:1'\n")
              .find("backing.NODE entries, has 3") != std::string::npos);
    CHECK(refusal_of_line("backing.gamma = '/x'") ==
          "m.toml:8: volume.r0.backing.gamma: there is no [node.gamma]; add it, or correct the "
          "name");
    CHECK(refusal(nodes + "[volume.r0]\nbacking.alpha = 'x.img'\n")
              .starts_with("m.toml:6: volume.r0.backing.alpha: 'x.img' is not an absolute path"));
}

TEST_CASE("sizes that no disk can have are refused") {
    CHECK(refusal_of_line("size = 0").find("0 bytes is not a size") != std::string::npos);
    CHECK(refusal_of_line("size = '1000'").find("multiple of 512") != std::string::npos);
    CHECK(refusal_of_line("size = -512") == "m.toml:8: volume.r0.size: must not be negative");
    CHECK(refusal_of_line("size = '10GB'") ==
          "m.toml:8: volume.r0.size: 'GB' is a decimal unit; write GiB, which is a power of 1024");
    CHECK(refusal_of_line("size = 1152921504606846976") == "accepted");
    CHECK(refusal_of_line("size = 1152921504606847488").find("too large") != std::string::npos);
}

TEST_CASE("choices and times are checked") {
    CHECK(refusal_of_line("mode = 'raid0'") ==
          "m.toml:8: volume.r0.mode: 'raid0' is not known; take \"sync\" or \"async\"");
    CHECK(refusal_of_line("mode = 'async'") ==
          "m.toml:8: volume.r0.mode: asynchronous mode is not available in this version; "
          "use mode = \"sync\"");
    CHECK(refusal_of_line("remote_verbs = 'some'").find("\"none\" or \"switch\" or \"full\"") !=
          std::string::npos);
    CHECK(refusal_of_line("on_peer_loss = 'wait'") ==
          "m.toml:8: volume.r0.on_peer_loss: 'wait' is not known; take \"continue\" or \"stop\"");
    CHECK(refusal_of_line("verify_rate = 0") == "accepted");
    CHECK(refusal_of_line("verify_rate = '5MB'").find("verify_rate: ") != std::string::npos);
    for (const char* rate : {"1", "-1", "true", "'64'"}) {
        CHECK(refusal_of_line(fmt::format("verify_rate = {}", rate))
                  .starts_with("m.toml:8: volume.r0.verify_rate: "));
    }
    CHECK(refusal_of_line("peer_timeout = '5'").find("'5' has no unit") != std::string::npos);
    for (const char* timeout : {"0s", "99ms", "601s", "1h"}) {
        CHECK(refusal_of_line(fmt::format("peer_timeout = '{}'", timeout)) ==
              fmt::format("m.toml:8: volume.r0.peer_timeout: '{}' is out of range; use a value "
                          "from 100ms to 10min",
                          timeout));
    }
    CHECK(refusal_of_line("disk_timeout = '0s'") == "accepted");
    CHECK(refusal_of_line("disk_timeout = '30s'") == "accepted");
    CHECK(refusal_of_line("disk_timeout = '1ms'").find("use a value from 100ms to 10min") !=
          std::string::npos);
    CHECK(refusal_of_line("peer_timeout = '100ms'") == "accepted");
    CHECK(refusal_of_line("peer_timeout = '10min'") == "accepted");
}

TEST_CASE("no path serves twice on a node") {
    const std::string r1 = "[volume.r1]\nbacking.alpha = '/srv/./a.img'\nbacking.beta = '/y'\n";
    CHECK(refusal(nodes + r0 + r1) ==
          "m.toml:8: volume.r1: backing.alpha /srv/a.img is also volume.r0.backing.alpha on node "
          "alpha; give each volume a backing, a device and a mount of its own");
    const std::string other =
        "device = '/dev/nbd0'\n[volume.r1]\nbacking.alpha = '/x'\n"
        "backing.beta = '/y'\ndevice = '/dev/nbd0'\n";
    CHECK(refusal(nodes + r0 + other)
              .starts_with("m.toml:9: volume.r1: device /dev/nbd0 is also volume.r0.device on "));
    CHECK(refusal_of_line("mount = '/srv/a.img'\ndevice = '/dev/nbd0'")
              .find("is also volume.r0.backing.alpha") != std::string::npos);
    const std::string apart =
        "[node.c]\naddress = 'c:1'\n[node.d]\naddress = 'd:1'\n"
        "[volume.r1]\nbacking.c = '/srv/a.img'\nbacking.d = '/srv/b.img'\n"
        "device = '/dev/nbd0'\n";
    CHECK(refusal(nodes + r0 + "device = '/dev/nbd0'\n" + apart) == "accepted");
}

TEST_CASE("a socket's path that the system cannot bind is refused early") {
    const std::string text = fmt::format(
        "[node.a]\naddress = 'h:1'\nrun_dir = '/{}'\n[node.b]\naddress = 'h:2'\n"
        "[volume.r0]\nbacking.a = '/x'\nbacking.b = '/x'\n",
        std::string(100, 'd'));
    CHECK(refusal(text).find("has a path of 117 bytes; the system allows 107") !=
          std::string::npos);
}

TEST_CASE("a device is one of the kernel's nbd driver, and no disk") {
    for (const char* device : {"/dev/nbd0", "/dev/nbd15", "//dev/./nbd1"}) {
        CAPTURE(device);
        CHECK(refusal_of_line(fmt::format("device = '{}'", device)) == "accepted");
    }
    for (const char* device : {"/dev/sdb", "/dev/nbd", "/dev/nbd0p1", "/dev/nbd01", "/dev/nbd-1",
                               "/dev/nbd99999999999", "/dev/disk/by-id/x", "/srv/nbd0"}) {
        CAPTURE(device);
        CHECK(
            refusal_of_line(fmt::format("device = '{}'", device))
                .starts_with(fmt::format("m.toml:8: volume.r0.device: '{}' is not a device of the "
                                         "kernel's nbd driver; take \"/dev/nbd0\"",
                                         device)));
    }
}

TEST_CASE("a volume's name is none that mirrordisk has itself, in any case and with any end") {
    CHECK(own_names::control_export == control::mailbox_export);
    const auto refusal_of = [](const std::string& name) {
        return refusal(nodes + fmt::format("[volume.'{}']\nbacking.alpha = '/x'\n", name) +
                       "backing.beta = '/x'\n");
    };
    for (const char* taken :
         {"mirrord",      "Mirrord",       "mirrord.sock",      "mirrord.lock",
          "MIRRORD.LOCK", "events.jsonl",  "events.jsonl.1",    "events.jsonl.44",
          "Events.jsonl", "events.cursor", "events.cursor.new", "control",
          "CONTROL",      "r0.express",    "r0.sock",           "r0.express.sock",
          "r0.SOCK",      "r0.pid",        "r0.engine-error",   "r0.active",
          "r0.boot"}) {
        CAPTURE(taken);
        CHECK(refusal_of(taken).starts_with(
            fmt::format("m.toml:5: volume.{}: the name is taken: ", taken)));
    }
    for (const char* free :
         {"mirrord.x", "mirrord1", "xmirrord", "events", "events.jsonl.x", "events.jsonl2",
          "control1", "default", "sock", "pid", "r0.socket", "express"}) {
        CAPTURE(free);
        CHECK(refusal_of(free) == "accepted");
    }
    CHECK(refusal("[node.Ca]\naddress = 'h:1'\n")
              .starts_with("m.toml:1: node.Ca: the name is taken: "));
}

TEST_CASE("no backing and no mount is a file of mirrord's, or hides one") {
    const auto refusal_of = [](const std::string& backing, const std::string& mount) {
        return refusal(fmt::format(
            "[node.alpha]\naddress = 'h:1'\nrun_dir = '/r'\nstate_dir = '/s/t'\n"
            "[node.beta]\naddress = 'i:1'\n[volume.r0]\nbacking.alpha = '{}'\n"
            "backing.beta = '/x'\n{}",
            backing,
            mount.empty() ? "" : fmt::format("device = '/dev/nbd0'\nmount = '{}'\n", mount)));
    };
    CHECK(refusal_of("/s/t/r0.img", "") == "accepted");
    for (const char* own :
         {"/r/mirrord.sock", "/r/r0.sock", "/r/r0.active", "/s/t/r0", "/s/t/r0/meta",
          "/s/t/events.jsonl", "/s/t/events.cursor", "/s/t", "/r"}) {
        CAPTURE(own);
        CHECK(refusal_of(own, "").find("is also mirrord's own on node alpha") != std::string::npos);
    }
    CHECK(refusal_of("/d/r0.img", "/e") == "accepted");
    CHECK(refusal_of("/d/r0.img", "/d/r0") == "accepted");
    CHECK(refusal_of("/d/r0.img", "/r").find("is also mirrord's own") != std::string::npos);
    for (const char* above : {"/d", "/s"}) {
        CAPTURE(above);
        CHECK(refusal_of("/d/r0.img", above).find("would hide") != std::string::npos);
    }
}

TEST_CASE("a name with a dot that is not in quotes is told so") {
    CHECK(refusal("[node.db1.example.com]\naddress = 'h:1'\n") ==
          "m.toml:1: node.db1.example: a name with a dot must be quoted; write "
          "[node.\"db1.example.com\"]");
    CHECK(
        refusal(nodes + "[volume.a.b]\nsize = '1MiB'\nbacking.alpha = '/x'\nbacking.beta = '/x'\n")
            .ends_with("volume.a.b: a name with a dot must be quoted; write [volume.\"a.b\"]"));
    CHECK(refusal(nodes + "[volume.r0]\nbacking.alpha.example = '/x'\n")
              .ends_with("a name with a dot must be quoted; write backing.\"alpha.example\" = "
                         "\"/PATH\""));
    CHECK(refusal(nodes + "[volume.r0]\nbacking.db1.x.y = '/x'\n").find("backing.\"db1.x.y\"") !=
          std::string::npos);
    CHECK(refusal(nodes + r0 + "backings.alpha = '/x'\n").find("did you mean backing.NODE?") !=
          std::string::npos);
    CHECK(refusal("[node.'db1.example.com']\naddress = 'h:1'\n") == "accepted");
}

TEST_CASE("a machine is the node with its whole name, else with its first part, in any case") {
    const auto found = [](const std::string& names, const std::string& host) {
        std::string text;
        int port = 1;
        for (std::size_t at = 0; at < names.size(); at = names.find(' ', at) + 1) {
            text += fmt::format("[node.'{}']\naddress = 'h:{}'\n",
                                names.substr(at, names.find(' ', at) - at), port++);
            if (names.find(' ', at) == std::string::npos) {
                break;
            }
        }
        const Config config = parse_config(text, "m.toml").value();
        const auto node = node_of_host(config, host);
        return node ? (*node)->name : node.error().text();
    };
    CHECK(found("db1 db2", "db1") == "db1");
    CHECK(found("db1 db2", "db1.example.com") == "db1");
    CHECK(found("db1 db1.example.com", "db1.example.com") == "db1.example.com");
    CHECK(found("DB1 db2", "db1") == "DB1");
    CHECK(found("db1 db2", "DB1.Example.COM") == "db1");
    CHECK(found("db1.example.com db2", "DB1.Example.com") == "db1.example.com");
    CHECK(found("DB1 db1", "db1") == "db1");
    CHECK(found("DB1 db1", "Db1") ==
          "m.toml: this machine is called 'Db1', which matches more than one node: DB1 and db1; "
          "choose with --node NAME or $MIRRORDISK_NODE");
    CHECK(found("alpha beta", "db1.example.com") ==
          "m.toml: no node is named 'db1.example.com', as this machine is, nor 'db1'; the file has "
          "alpha, beta; choose this machine's with --node NAME or $MIRRORDISK_NODE");
}

TEST_CASE("a name that is not in the file is answered with those that are") {
    const Result<Config> config = parse_config(nodes + r0, "m.toml");
    REQUIRE(config.has_value());
    CHECK(config->volume("r9").error().text() ==
          "m.toml: no volume is named 'r9'; the file has r0");
    CHECK(config->node("zeta").error().text() ==
          "m.toml: no node is named 'zeta'; the file has alpha, beta; choose this machine's with "
          "--node NAME or $MIRRORDISK_NODE");
    CHECK(config->node("zeta").error().kind == ErrorKind::not_found);
}

TEST_CASE("a file is loaded, and one that is missing is named") {
    const test::TempDir dir;
    std::ofstream(dir.file("ok.toml")) << nodes << r0;
    const Result<Config> config = load_config(dir.file("ok.toml"));
    REQUIRE(config.has_value());
    CHECK(config->path == dir.file("ok.toml"));
    const Result<Config> missing = load_config(dir.file("none.toml"));
    REQUIRE_FALSE(missing.has_value());
    CHECK(missing.error().kind == ErrorKind::not_found);
    CHECK(missing.error().message == dir.file("none.toml") + ": No such file or directory");
    CHECK_FALSE(load_config(dir.path()).has_value());
}

TEST_CASE("the file and the node come from the option, the environment, the default") {
    ::setenv("MIRRORDISK_CONFIG", "/x/y.toml", 1);
    ::setenv("MIRRORDISK_NODE", "gamma.x", 1);
    CHECK(config_path("/given") == "/given");
    CHECK(config_path("") == "/x/y.toml");
    const Config config =
        parse_config("[node.'gamma.x']\naddress='a:1'\n[node.given]\naddress='b:1'\n", "m.toml")
            .value();
    CHECK(this_node(config, "given").value()->name == "given");
    CHECK(this_node(config, "").value()->name == "gamma.x");
    CHECK_FALSE(this_node(config, "Given").has_value());  // what was typed is exact
    ::unsetenv("MIRRORDISK_CONFIG");
    ::unsetenv("MIRRORDISK_NODE");
    CHECK(config_path("") == "/etc/mirrordisk/mirrordisk.toml");
}

TEST_CASE("what is mounted, hooked and active at boot is read") {
    const Result<Config> config = parse_config(
        nodes + r0 + "device = \"/dev/nbd0\"\nmount = \"/srv//data/\"\n" +
            "mount_options = \"noatime\"\nactive_at_boot = \"beta\"\n" + "hook_timeout = \"90s\"\n",
        "m.toml");
    REQUIRE(config.has_value());
    const VolumeConfig& volume = config->volumes.at("r0");
    CHECK(volume.mount == "/srv/data");
    CHECK(volume.mount_options == "noatime");
    CHECK(volume.active_at_boot == "beta");
    CHECK(volume.hook_timeout == 90s);
    // A node on which they differ replicates all the same.
    const auto plain = parse_config(nodes + r0 + "device = \"/dev/nbd0\"\n", "m.toml");
    REQUIRE(plain.has_value());
    CHECK(plain->volumes.at("r0").hook_timeout == 60s);
    CHECK(plain->volumes.at("r0").active_at_boot.empty());
    CHECK(plain->volumes.at("r0").shared_settings() == volume.shared_settings());
}

TEST_CASE("the group of a volume's socket is read, and may differ between the nodes") {
    const auto given = parse_config(nodes + r0 + "io_group = \"libvirt-qemu\"\n", "m.toml");
    REQUIRE(given.has_value());
    const VolumeConfig& volume = given->volumes.at("r0");
    CHECK(volume.io_group == "libvirt-qemu");
    const auto plain = parse_config(nodes + r0, "m.toml");
    REQUIRE(plain.has_value());
    CHECK(plain->volumes.at("r0").io_group.empty());
    CHECK(plain->volumes.at("r0").shared_settings() == volume.shared_settings());
    for (const char* wrong : {"''", "'a b'", "'a:b'", "107"}) {
        CHECK(refusal_of_line(fmt::format("io_group = {}", wrong))
                  .starts_with("m.toml:8: volume.r0.io_group: "));
    }
}

TEST_CASE("keys that need another one say so, with file and line") {
    CHECK(
        refusal_of_line("mount = \"/srv/data\"") ==
        "m.toml:8: volume.r0.mount: the volume has no device to mount; add device = \"/dev/nbd0\"");
    CHECK(refusal_of_line("mount_options = \"noatime\"") ==
          "m.toml:8: volume.r0.mount_options: the volume has no mount; add mount = \"/srv/data\"");
    CHECK(refusal_of_line("active_at_boot = \"gamma\"") ==
          "m.toml:8: volume.r0.active_at_boot: 'gamma' is not a node of this volume; use "
          "\"alpha\" or \"beta\"");
    CHECK(refusal_of_line("mount = \"data\"").find("'data' is not an absolute path") !=
          std::string::npos);
    CHECK(refusal_of_line("mount = \"//\"").find("can't be mounted on /") != std::string::npos);
    CHECK(refusal_of_line("hook_timeout = \"1h\"").find("out of range") != std::string::npos);
}

TEST_CASE("two volumes are not mounted on one place") {
    const std::string first = "device = \"/dev/nbd0\"\nmount = \"/srv/data\"\n";
    const std::string second = R"([volume.r1]
device = "/dev/nbd1"
mount = "/srv/data/"
backing.alpha = "/srv/c.img"
backing.beta = "/srv/d.img"
)";
    CHECK(refusal(nodes + r0 + first + second).find("mount /srv/data is also volume.r0.mount") !=
          std::string::npos);
}
