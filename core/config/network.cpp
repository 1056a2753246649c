// SPDX-License-Identifier: BSD-3-Clause
#include "core/config/network.hpp"

#include <filesystem>

#include "core/config/values.hpp"

namespace mirror {

TlsConfig default_tls(const std::string& config_path) {
    const std::filesystem::path folder = std::filesystem::path(config_path).parent_path();
    return {.psk_file = folder / "cluster.psk", .x509_dir = folder / "x509"};
}

Result<void> read_network_key(TlsConfig& tls, const Item& item, std::string_view key) {
    if (key == "tls") {
        return store(choice_of(item, tls_words), tls.mode);
    }
    if (key == "psk_file") {
        return store(path_of(item, "/etc/mirrordisk/cluster.psk"), tls.psk_file);
    }
    if (key == "x509_dir") {
        return store(path_of(item, "/etc/mirrordisk/x509"), tls.x509_dir);
    }
    return store(bool_of(item), key == "crl_required" ? tls.crl_required : tls.private_network);
}

Result<void> check_network(const Config& config, const Item& item) {
    if (config.tls.mode != TlsMode::off || config.tls.private_network) {
        return {};
    }
    for (const auto& [name, node] : config.nodes) {
        const bool is_known = node.address.port != 0;  // else a mistake of its own
        if (is_known && !node.address.is_loopback()) {
            return item.wrong(
                fmt::format("\"off\" would send every byte of the disks to and from {} ({}) "
                            "unencrypted, and let anyone on the network change them",
                            name, node.address.text()),
                "set tls = \"psk\" and make a key with mirrorctl keygen; or, if nobody else can "
                "reach this network, add i_know_this_network_is_private = true");
        }
    }
    return {};
}

}  // namespace mirror
