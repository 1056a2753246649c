// SPDX-License-Identifier: BSD-3-Clause
// The engine's view of the work at a standby's disk: a connection of its own to VOLUME/progress,
// which the standby answers without its disk, so that a queue there does not hold up what is said
// of it. Asked by the links of a session while commands of theirs wait, and by nobody else.
//
// Outlives the links that ask it.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "core/nbd/link.hpp"
#include "core/nbd/signs_of_life.hpp"
#include "core/nbd/work_report.hpp"

namespace mirror::nbd {

class PeerProgress final : public SignsOfLife {
  public:
    /// Null where the peer has no such export: an older version, of which silence is silence.
    [[nodiscard]] static Result<std::unique_ptr<PeerProgress>> connect(
        const Address& address, const std::string& export_name, LinkOptions options);

    void look() override;
    [[nodiscard]] SteadyTime last_progress(std::size_t lane) const noexcept override;

    /// For its loss: whoever does not answer this is silent.
    [[nodiscard]] Link& link() noexcept { return *link_; }

  private:
    explicit PeerProgress(std::unique_ptr<Link> link) : link_(std::move(link)) {}
    void take_answer() noexcept;

    std::atomic<bool> asking_{false};
    // Of the question under way: written by whoever asks, read by the one that takes its answer.
    SteadyTime asked_at_{};
    std::array<std::byte, work_report_size> answer_{};
    std::array<std::atomic<SteadyTime>, work_lanes> progress_{};
    const std::unique_ptr<Link> link_;  ///< the first to go, with the answer that is under way
};

}  // namespace mirror::nbd
