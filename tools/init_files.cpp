// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "core/base/fd.hpp"
#include "core/base/put_file.hpp"
#include "core/base/trusted_file.hpp"
#include "core/nbd/look_up.hpp"
#include "tools/init.hpp"

namespace mirror::tools {
namespace {

/// Only an address of this machine can be bound.
bool is_own_number(const std::string& number) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE;
    addrinfo* found = nullptr;
    if (::getaddrinfo(number.c_str(), nullptr, &hints, &found) != 0) {
        return true;  // not known
    }
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> address(found, ::freeaddrinfo);
    const Fd socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return !socket.is_open() || ::bind(socket.get(), found->ai_addr, found->ai_addrlen) == 0 ||
           errno != EADDRNOTAVAIL;
}

}  // namespace

Result<ConfigFile> compare_config(const std::string& path, std::string text) {
    ConfigFile file{.path = path, .text = std::move(text)};
    auto old = read_trusted_file(path, longest_config_file);
    if (!old && old.error().kind == ErrorKind::not_found) {
        return file;
    }
    if (!old) {
        return Failure(old.error());
    }
    file.exists = true;
    file.old = std::move(*old);
    file.is_the_same = say_the_same(file.old, file.text);
    file.lost = lines_lost(file.old, file.text);
    return file;
}

Result<void> require_replaceable(const ConfigFile& file, bool force) {
    if (!file.exists || file.is_the_same || force) {
        return {};
    }
    std::string lost;
    for (const std::string& line : file.lost) {
        lost += (lost.empty() ? "" : " | ") + line;
    }
    return Failure(Error{
        ErrorKind::refused,
        fmt::format("{} exists and says something else{}{}", file.path,
                    lost.empty() ? "" : "; these lines would go: ", lost),
        "change that file and then: mirrorctl reload; or replace it with --force, which keeps the "
        "old one as " +
            file.path + ".old"});
}

Result<void> write_config(const ConfigFile& file) {
    const std::string folder = std::filesystem::absolute(file.path).parent_path().string();
    return make_folder(folder, 0755)
        .and_then([&] { return require_trusted_path(folder).map([](const std::string&) {}); })
        .and_then([&] {
            return file.exists ? put_file(file.path + ".old", file.old, 0644) : Result<void>();
        })
        .and_then([&] { return put_file(file.path, file.text, 0644); })
        .and_then([&] { return sync_folder(folder); });
}

std::string why_not_own_address(const Endpoint& address) {
    const auto numbers = nbd::look_up(address.host);
    if (!numbers) {
        return numbers.error().text();
    }
    for (const std::string& number : *numbers) {
        if (!is_own_number(number)) {
            return fmt::format(
                "{} is not an address of this machine: mirrord can't listen there",
                number == address.host ? number : fmt::format("{} ({})", address.host, number));
        }
    }
    return {};
}

Firewall firewall_here() {
    constexpr std::array<std::pair<const char*, Firewall>, 6> programs{
        {{"/usr/sbin/ufw", Firewall::ufw},
         {"/usr/bin/firewall-cmd", Firewall::firewalld},
         {"/bin/firewall-cmd", Firewall::firewalld},
         {"/usr/sbin/nft", Firewall::nft},
         {"/sbin/nft", Firewall::nft},
         {"/usr/bin/nft", Firewall::nft}}};
    for (const auto& [path, firewall] : programs) {
        if (::access(path, X_OK) == 0) {
            return firewall;
        }
    }
    return Firewall::unknown;
}

}  // namespace mirror::tools
