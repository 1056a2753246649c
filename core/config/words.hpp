// SPDX-License-Identifier: BSD-3-Clause
// The words of the configuration for its choices, in one place for reading and for comparing.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "core/config/config.hpp"

namespace mirror {

template <typename Choice, std::size_t count = 2>
using ChoiceWords = std::array<std::pair<std::string_view, Choice>, count>;

inline constexpr ChoiceWords<Mode> mode_words{{{"sync", Mode::sync}, {"async", Mode::async}}};
inline constexpr ChoiceWords<OnPeerLoss> on_peer_loss_words{
    {{"continue", OnPeerLoss::continue_alone}, {"stop", OnPeerLoss::stop}}};
inline constexpr ChoiceWords<RemoteVerbs, 3> remote_verbs_words{
    {{"none", RemoteVerbs::none}, {"switch", RemoteVerbs::switched}, {"full", RemoteVerbs::full}}};
inline constexpr ChoiceWords<TlsMode, 3> tls_words{
    {{"psk", TlsMode::psk}, {"x509", TlsMode::x509}, {"off", TlsMode::off}}};

[[nodiscard]] constexpr std::string_view to_word(Mode mode) noexcept {
    return mode == Mode::sync ? mode_words[0].first : mode_words[1].first;
}
[[nodiscard]] constexpr std::string_view to_word(OnPeerLoss choice) noexcept {
    return choice == OnPeerLoss::continue_alone ? on_peer_loss_words[0].first
                                                : on_peer_loss_words[1].first;
}
[[nodiscard]] constexpr std::string_view to_word(RemoteVerbs choice) noexcept {
    return remote_verbs_words.at(static_cast<std::size_t>(choice)).first;
}
[[nodiscard]] constexpr std::string_view to_word(TlsMode mode) noexcept {
    return tls_words.at(static_cast<std::size_t>(mode)).first;
}

}  // namespace mirror
