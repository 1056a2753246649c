// SPDX-License-Identifier: BSD-3-Clause
#include "tools/init.hpp"

#include <fstream>
#include <sstream>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/tls/psk_file.hpp"
#include "tests/unit/temp_dir.hpp"
#include "tools/join_block.hpp"

using namespace mirror;
using namespace mirror::tools;

namespace {

std::string content_of(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

unsigned mode_of(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 0777U : 0U;
}

tls::Secret secret_of(std::string_view text) {
    tls::Secret secret;
    for (const char letter : text) {
        secret.push_back(static_cast<std::byte>(letter));
    }
    return secret;
}

/// A machine: its folder for the configuration and the keys.
struct Machine {
    test::TempDir dir;
    std::string name;
    Options options{};
    std::string out{};
    std::string err{};

    explicit Machine(std::string node) : name(std::move(node)) {}

    [[nodiscard]] std::string config() const { return dir.file("etc/mirrordisk.toml"); }
    [[nodiscard]] std::string keys() const { return dir.file("etc/cluster.psk"); }

    int run(const std::string& input = {}, bool can_ask = false) {
        std::ostringstream said;
        std::ostringstream told;
        std::istringstream typed(input);
        World world{.out = said,
                    .err = told,
                    .in = typed,
                    .terminal = {},
                    .can_ask = can_ask,
                    .clock = system_clock(),
                    .pause = [](std::chrono::milliseconds) { return false; }};
        options.verb = "init";
        options.node = name;
        const int code = init(options, config(), world);
        out = said.str();
        err = told.str();
        return code;
    }
    int set_up() {
        options = {};
        options.members = {"alpha=127.0.0.1:7001", "beta=127.0.0.2:7001"};
        options.volumes = {"r0,size=64MiB,device=none"};
        return run();
    }
    int join(const std::string& block, bool force = false) {
        options = {};
        options.join = true;
        options.force = force;
        return run(block);
    }
    std::string show_join() {
        options = {};
        options.show_join = true;
        REQUIRE(run() == exit_done);
        return out;
    }
};

}  // namespace

TEST_CASE("the words of a command line are a plan") {
    const auto member = parse_member("alpha=10.0.0.1,run_dir=/x,state_dir=/y", 10810);
    REQUIRE(member);
    CHECK(member->name == "alpha");
    CHECK(member->address == "10.0.0.1:10810");
    CHECK(member->keys == Keys{{"run_dir", "/x"}, {"state_dir", "/y"}});
    CHECK(parse_member("a=fe80::1", 1)->address == "[fe80::1]:1");
    CHECK(parse_member("a=[fe80::1]:9", 1)->address == "[fe80::1]:9");
    CHECK(parse_member("a=host:9", 1)->address == "host:9");
    for (const char* wrong : {"", "alpha", "=1", "a=", "a=1,x", "a=1,=y", "a=1,x="}) {
        CAPTURE(wrong);
        CHECK_FALSE(parse_member(wrong, 1));
    }
    const auto volume = parse_volume("r0,size=10GiB,backing=/dev/vg/r0");
    REQUIRE(volume);
    CHECK(volume->keys.size() == 2);
    for (const char* wrong : {"", "size=1GiB", "r0,size", ",x=y"}) {
        CAPTURE(wrong);
        CHECK_FALSE(parse_volume(wrong));
    }
}

TEST_CASE("a plan is a configuration that the reader takes, whatever the names") {
    InitPlan plan;
    plan.members = {*parse_member("db1.example.com=10.0.0.1", 10809), *parse_member("b=h", 1)};
    plan.volumes = {*parse_volume("r0,size=10GiB,mount=/srv/\"d\\"),
                    *parse_volume("r1,backing=/dev/vg/r1,device=none,peer_timeout=2s")};
    complete(plan, "/srv");
    CHECK(missing_in(plan).empty());
    const auto config = read_config(config_text(plan), "m");
    REQUIRE(config);
    CHECK(config->nodes.at("db1.example.com").address.text() == "10.0.0.1:10809");
    const VolumeConfig& r0 = config->volumes.at("r0");
    CHECK(r0.backing.at("db1.example.com") == "/srv/r0.img");
    CHECK(r0.device == "/dev/nbd0");
    CHECK(r0.mount == "/srv/\"d\\");
    const VolumeConfig& r1 = config->volumes.at("r1");
    CHECK(r1.backing.at("b") == "/dev/vg/r1");
    CHECK(r1.device.empty());
    CHECK(r1.peer_timeout == std::chrono::seconds(2));
}

TEST_CASE("what is missing is said, with the option") {
    InitPlan plan;
    CHECK(missing_in(plan).size() == 2);
    plan.members = {{"a", "h:1"}};
    plan.volumes = {{"r0"}};
    complete(plan, "/srv");
    const auto missing = missing_in(plan);
    REQUIRE(missing.size() == 2);
    CHECK(missing[0] == "a second --member NAME=ADDRESS");
    CHECK(missing[1] == "the size of r0 (--volume r0,size=SIZE)");
}

TEST_CASE("what is needed to join survives a terminal, and a part of it is not taken for all") {
    for (const std::size_t size : {0U, 1U, 2U, 3U, 500U}) {
        const std::string config(size, 'x');
        const JoinBlock block{"alpha", config, secret_of("a+b+1:00\n")};
        const std::string text(encode_join(block).text());
        CHECK(text.starts_with(join_begin));
        CHECK(text.find("a+b+1") == std::string::npos);
        std::string letters;
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) {
            CHECK(line.size() <= 76);
            letters += line.starts_with("-----") ? "" : line;
        }
        const auto decoded = decode_join(secret_of(letters));
        REQUIRE(decoded);
        CHECK(decoded->from == "alpha");
        CHECK(decoded->config == config);
        CHECK(decoded->keys == block.keys);
        for (std::size_t at = 0; at < letters.size(); at += 7) {
            std::string other = letters;
            other[at] = other[at] == 'A' ? 'B' : 'A';
            CHECK_FALSE(decode_join(secret_of(other)));
            CHECK_FALSE(decode_join(secret_of(letters.substr(0, at))));
        }
    }
    CHECK_FALSE(decode_join(secret_of("====")));
    CHECK_FALSE(decode_join(secret_of("not*base64")));
}

TEST_CASE("a pair is set up from nothing, and a second time there is nothing to do") {
    Machine alpha("alpha");
    REQUIRE(alpha.set_up() == exit_done);
    CHECK(mode_of(alpha.config()) == 0644U);
    CHECK(mode_of(alpha.keys()) == 0600U);
    CHECK(alpha.out.find("mirrorctl create r0") != std::string::npos);
    CHECK(alpha.out.find("systemctl enable --now mirrord") != std::string::npos);
    const std::string config = content_of(alpha.config());
    const std::string keys = content_of(alpha.keys());
    REQUIRE(alpha.set_up() == exit_done);
    CHECK(alpha.out.starts_with("nothing to do"));
    CHECK(content_of(alpha.keys()) == keys);

    const std::string block = alpha.show_join();
    Machine beta("beta");
    REQUIRE(beta.join("$ mirrorctl init --show-join\n" + block) == exit_done);
    CHECK(content_of(beta.config()) == config);
    CHECK(content_of(beta.keys()) == keys);
    CHECK(mode_of(beta.config()) == 0644U);
    CHECK(mode_of(beta.keys()) == 0600U);
    REQUIRE(beta.join(block) == exit_done);
    CHECK(beta.out.starts_with("nothing to do"));
}

TEST_CASE("no secret is in what init says, but for the block that is asked for") {
    Machine alpha("alpha");
    REQUIRE(alpha.set_up() == exit_done);
    const auto keys = tls::read_psk_file(alpha.keys());
    REQUIRE(keys);
    const std::string text = content_of(alpha.keys());
    const std::string hex = text.substr(text.rfind(':') + 1, 64);
    CHECK(alpha.out.find(hex) == std::string::npos);
    CHECK(alpha.out.find(keys->front().name) != std::string::npos);
    const std::string block = alpha.show_join();
    CHECK(block.find(hex) == std::string::npos);  // nor by mistake, to whoever looks for one
    Machine beta("beta");
    REQUIRE(beta.join(block) == exit_done);
    CHECK((beta.out + beta.err).find(hex) == std::string::npos);
}

TEST_CASE("a dry run shows the file and writes nothing") {
    Machine alpha("alpha");
    alpha.options.members = {"alpha=127.0.0.1", "beta=127.0.0.2"};
    alpha.options.volumes = {"r0,size=64MiB"};
    alpha.options.dry_run = true;
    REQUIRE(alpha.run() == exit_done);
    CHECK(alpha.out.find("[volume.r0]") != std::string::npos);
    CHECK(alpha.out.find("would write") != std::string::npos);
    CHECK(mode_of(alpha.config()) == 0U);
    CHECK(mode_of(alpha.keys()) == 0U);
}

TEST_CASE("what is there is replaced only with --force, and what is lost is said") {
    Machine alpha("alpha");
    REQUIRE(alpha.set_up() == exit_done);
    const std::string keys = content_of(alpha.keys());
    alpha.options.volumes = {"r0,size=128MiB,device=none"};
    CHECK(alpha.run() == exit_refused);
    CHECK(
        alpha.err.find("exists and says something else; these lines would go: size = \"64MiB\"") !=
        std::string::npos);
    CHECK(content_of(alpha.config()).find("64MiB") != std::string::npos);
    alpha.options.force = true;
    REQUIRE(alpha.run() == exit_done);
    CHECK(alpha.out.find("gone: size = \"64MiB\"") != std::string::npos);
    CHECK(content_of(alpha.config()).find("128MiB") != std::string::npos);
    CHECK(content_of(alpha.config() + ".old").find("64MiB") != std::string::npos);
    CHECK(content_of(alpha.keys()) == keys);
}

TEST_CASE("a node that is set up is not asked again") {
    Machine alpha("alpha");
    REQUIRE(alpha.set_up() == exit_done);
    alpha.options = {};
    CHECK(alpha.run("", true) == exit_refused);
    CHECK(alpha.err.find("this node is set up") != std::string::npos);
}

TEST_CASE("without a terminal what is missing is said, and with one it is asked for") {
    Machine alpha("alpha");
    CHECK(alpha.run() == exit_refused);
    CHECK(alpha.err.find("still to be said: two --member NAME=ADDRESS; a --volume") !=
          std::string::npos);
    const std::string typed =
        "alpha\n127.0.0.1\nbeta\n\n127.0.0.2:7002\n\n/srv/x.img\n\nten\n1GiB\nnone\n/srv/data\n";
    CHECK(alpha.run(typed, true) == exit_refused);  // a mount without a device
    CHECK(alpha.err.find("volume.r0.mount: the volume has no device") != std::string::npos);
    REQUIRE(alpha.run("alpha\n127.0.0.1\nbeta\n127.0.0.2:7002\n\n\n\n1GiB\nnone\n\n", true) ==
            exit_done);
    const auto config = read_config_file(alpha.config());
    REQUIRE(config);
    CHECK(config->nodes.at("beta").address.port == 7002);
    CHECK(config->volumes.at("r0").backing.at("alpha") == "/srv/r0.img");
    Machine other("alpha");
    CHECK(other.run("alpha\n127.0.0.1\n", true) == exit_refused);
    CHECK(other.err.find("the input ended") != std::string::npos);
}

TEST_CASE("all mistakes of what was said are told, without the place in a file nobody has seen") {
    Machine alpha("alpha");
    alpha.options.members = {"alpha=127.0.0.1", "beta=127.0.0.1"};
    alpha.options.volumes = {"r0,size=64MB,device=/dev/sdb,mode=fast"};
    CHECK(alpha.run() == exit_refused);
    for (const char* said :
         {"node.beta: has the address", "volume.r0.size: 'MB' is a decimal unit",
          "volume.r0.device: '/dev/sdb' is not a device", "volume.r0.mode: 'fast' is not known"}) {
        CAPTURE(said);
        CHECK(alpha.err.find(std::string("mirrorctl: ") + said) != std::string::npos);
    }
    CHECK(mode_of(alpha.config()) == 0U);
}

TEST_CASE("an address that is not this machine's is a warning on either node") {
    Machine alpha("alpha");
    alpha.options.members = {"alpha=203.0.113.1", "beta=203.0.113.2"};
    alpha.options.volumes = {"r0,size=64MiB"};
    REQUIRE(alpha.run() == exit_done);
    CHECK(alpha.out.find("203.0.113.1 is not an address of this machine") != std::string::npos);
    Machine beta("beta");
    REQUIRE(beta.join(alpha.show_join()) == exit_done);
    CAPTURE(beta.out);
    CHECK(beta.out.find("203.0.113.2 is not an address of this machine") != std::string::npos);
}

TEST_CASE("who can't join is told why, and nothing is written") {
    Machine alpha("alpha");
    REQUIRE(alpha.set_up() == exit_done);
    const std::string block = alpha.show_join();
    Machine again("alpha");
    CHECK(again.join(block) == exit_refused);
    CHECK(again.err.find("the block comes from alpha, and this is alpha") != std::string::npos);
    Machine gamma("gamma");
    CHECK(gamma.join(block) == exit_refused);
    CHECK(gamma.err.find("the block is not for this machine") != std::string::npos);
    Machine beta("beta");
    CHECK(beta.join("") == exit_refused);
    CHECK(beta.err.find("there is no block") != std::string::npos);
    CHECK(beta.join(block.substr(0, block.size() / 2)) == exit_refused);
    CHECK(beta.err.find("the block has no end") != std::string::npos);
    std::string cut = block;
    cut.erase(block.size() / 2, 73);
    CHECK(beta.join(cut) == exit_refused);
    CHECK(beta.err.find("is not whole") != std::string::npos);
    for (const Machine* machine : {&again, &gamma, &beta}) {
        CHECK(mode_of(machine->config()) == 0U);
        CHECK(mode_of(machine->keys()) == 0U);
    }
}

TEST_CASE("a node of another pair is not made one of this without --force") {
    Machine alpha("alpha");
    Machine beta("beta");
    REQUIRE(alpha.set_up() == exit_done);
    REQUIRE(beta.set_up() == exit_done);
    const std::string keys = content_of(beta.keys());
    const std::string block = alpha.show_join();
    CHECK(beta.join(block) == exit_refused);
    CHECK(beta.err.find("has other keys, which would go: ") != std::string::npos);
    CHECK(content_of(beta.keys()) == keys);
    REQUIRE(beta.join(block, true) == exit_done);
    CHECK(content_of(beta.keys()) == content_of(alpha.keys()));
}

TEST_CASE("the firewall's command lets in the peer alone") {
    const Endpoint own{"10.0.0.1", 10809};
    const Endpoint peer{"10.0.0.2", 10809};
    CHECK(firewall_command(Firewall::ufw, own, peer) ==
          "ufw allow from 10.0.0.2 to any app mirrordisk");
    CHECK(firewall_command(Firewall::ufw, {"10.0.0.1", 7}, peer) ==
          "ufw allow proto tcp from 10.0.0.2 to any port 7");
    CHECK(firewall_command(Firewall::firewalld, own, peer).find("address=\"10.0.0.2\"") !=
          std::string::npos);
    CHECK(firewall_command(Firewall::nft, own, {"fe80::2", 1}).find("ip6 saddr fe80::2") !=
          std::string::npos);
    CHECK(firewall_command(Firewall::unknown, own, peer).empty());
}
