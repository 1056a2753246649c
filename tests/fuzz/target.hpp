// SPDX-License-Identifier: BSD-3-Clause
// What a stranger can put in front of our parsers, as functions of any bytes: tests/fuzz/fuzzer.cpp
// hands them to libFuzzer, tests/fuzz/replay.cpp runs those kept in tests/fuzz/corpus. A target
// ends the process where a promise of the code under test is broken; the sanitizers see the rest.
// One input at a time; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace mirror::fuzz {

using Bytes = std::span<const std::byte>;

struct Target {
    std::string_view name;  ///< also of its corpus
    void (*run)(Bytes input);
};

/// All of them, by name.
[[nodiscard]] std::span<const Target> targets() noexcept;
/// Null when there is none of that name.
[[nodiscard]] const Target* find_target(std::string_view name) noexcept;

// What a server gets.
void nbd_server(Bytes input);       ///< a client's bytes, from the greeting on
void tls_server(Bytes input);       ///< the same behind TLS, and bytes that are no TLS
void loop_client(Bytes input);      ///< after the handshake, at the engine's own door
void frames(Bytes input);           ///< what a framed export is written and read
void control_request(Bytes input);  ///< a request in a mailbox, its fields in every decoder
void peer_requests(Bytes input);    ///< requests of a peer to a mirrord with a standby replica

// What a client gets.
void control_reply(Bytes input);     ///< a reply, its trailer, and what is made of it
void client_handshake(Bytes input);  ///< a server's bytes, from the greeting on, behind TLS too
void answers(Bytes input);           ///< a peer's answers to what a link has asked
void link(Bytes input);              ///< a server's bytes, to an asker
void change_map(Bytes input);        ///< the bytes of VOLUME/changes
void status_view(Bytes input);       ///< a daemon's status in mirrorctl

// What is read back from disks.
void config(Bytes input);
void psk_file(Bytes input);
void superblock(Bytes input);
void metadata(Bytes input);   ///< a metadata file with patches
void undo_file(Bytes input);  ///< an undo file with patches
void verify_record(Bytes input);
void small_files(Bytes input);  ///< event log and the figures of the last promotion

}  // namespace mirror::fuzz
