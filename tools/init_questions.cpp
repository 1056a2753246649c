// SPDX-License-Identifier: BSD-3-Clause
// The questions of mirrorctl init, for what was not said on the command line. Each shows what an
// empty line means.
#include <array>
#include <ifaddrs.h>
#include <memory>
#include <net/if.h>
#include <netdb.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include "core/base/units.hpp"
#include "tools/init.hpp"

namespace mirror::tools {
namespace {

/// The first address of this machine that others may reach; empty: none is found.
std::string likely_address() {
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) {
        return {};
    }
    const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> addresses(list, ::freeifaddrs);
    for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
        const bool is_used =
            (each->ifa_flags & IFF_UP) != 0 && (each->ifa_flags & IFF_LOOPBACK) == 0;
        if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET || !is_used) {
            continue;
        }
        std::array<char, NI_MAXHOST> text{};
        if (::getnameinfo(each->ifa_addr, sizeof(sockaddr_in), text.data(), text.size(), nullptr, 0,
                          NI_NUMERICHOST) == 0) {
            return text.data();
        }
    }
    return {};
}

class Asking {
  public:
    explicit Asking(World& world) : world_(world) {}

    /// The answer; empty where the input has ended, or nothing was typed and nothing is usual.
    std::string operator()(const std::string& question, const std::string& usual = {}) {
        world_.out << question << (usual.empty() ? ": " : fmt::format(" [{}]: ", usual))
                   << std::flush;
        std::string line;
        if (!std::getline(world_.in, line)) {
            has_ended_ = true;
            return {};
        }
        const std::size_t first = line.find_first_not_of(" \t\r");
        return first == std::string::npos
                   ? usual
                   : line.substr(first, line.find_last_not_of(" \t\r") - first + 1);
    }

    /// Again until something is typed.
    std::string insist(const std::string& question, const std::string& usual = {}) {
        std::string answer;
        while (answer.empty() && !has_ended_) {
            answer = (*this)(question, usual);
        }
        return answer;
    }

    [[nodiscard]] bool has_ended() const noexcept { return has_ended_; }

  private:
    World& world_;
    bool has_ended_ = false;
};

void ask_for_member(InitPlan& plan, Asking& ask, const std::string& which, const std::string& name,
                    const std::string& address, std::uint16_t port) {
    Member member{ask.insist(fmt::format("name of {}", which), name), {}};
    member.address = with_port(ask.insist(fmt::format("address of {} that the other node reaches",
                                                      member.name.empty() ? which : member.name),
                                          address),
                               port);
    plan.members.push_back(std::move(member));
}

std::string ask_for_size(Asking& ask, const std::string& name, World& world) {
    while (!ask.has_ended()) {
        std::string size = ask.insist(fmt::format("size of {}, such as 10GiB", name));
        const auto bytes = parse_size(size);
        if (bytes) {
            return size;
        }
        if (!ask.has_ended()) {
            world.out << bytes.error().text() << '\n';
        }
    }
    return {};
}

void ask_for_volume(InitPlan& plan, Asking& ask, const std::string& folder, World& world) {
    PlannedVolume volume{ask.insist("name of the volume", "r0")};
    for (const Member& member : plan.members) {
        volume.keys.emplace_back(
            "backing." + member.name,
            ask.insist(fmt::format("file or block device for it on {}", member.name),
                       fmt::format("{}/{}.img", folder, volume.name)));
    }
    if (needs_size(volume)) {
        volume.keys.emplace_back("size", ask_for_size(ask, volume.name, world));
    }
    volume.keys.emplace_back("device", ask("device that it is attached to, or none", "/dev/nbd0"));
    if (const std::string mount = ask("where it is mounted while active (empty: you mount it)");
        !mount.empty()) {
        volume.keys.emplace_back("mount", mount);
    }
    plan.volumes.push_back(std::move(volume));
}

}  // namespace

Result<void> ask_for_plan(InitPlan& plan, const Options& options, const std::string& name,
                          World& world) {
    Asking ask(world);
    const std::uint16_t port = options.port.value_or(usual_port);
    if (plan.members.empty()) {
        ask_for_member(plan, ask, "this node", name, likely_address(), port);
    }
    if (plan.members.size() < 2) {
        ask_for_member(plan, ask, "the other node", "", "", port);
    }
    if (plan.volumes.empty()) {
        ask_for_volume(plan, ask, options.folder, world);
    }
    for (PlannedVolume& volume : plan.volumes) {
        const std::string* const size = find_key(volume.keys, "size");
        if (size == nullptr && find_key(volume.keys, "backing") == nullptr &&
            find_key(volume.keys, "backing." + plan.members.front().name) == nullptr) {
            volume.keys.emplace_back("size", ask_for_size(ask, volume.name, world));
        }
    }
    if (ask.has_ended()) {
        return Failure(Error{ErrorKind::invalid, "the input ended before all was said",
                             "start again, or say it with options: mirrorctl init --help"});
    }
    return {};
}

}  // namespace mirror::tools
