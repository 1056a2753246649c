// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/peer_progress.hpp"

#include <cerrno>
#include <utility>

namespace mirror::nbd {

Result<std::unique_ptr<PeerProgress>> PeerProgress::connect(const Address& address,
                                                            const std::string& export_name,
                                                            LinkOptions options) {
    // A command of another link that waits is what it is asked for; an idle one needs no watch.
    options.heartbeat = false;
    auto link = Link::connect(address, export_name, options);
    if (!link) {
        if (link.error().os_error == ENOENT && address.unix_path.empty()) {
            return std::unique_ptr<PeerProgress>();
        }
        return Failure(link.error());
    }
    if ((*link)->export_size() < work_report_size) {
        return fail(ErrorKind::protocol, "{}: the export '{}' is too short", options.peer_name,
                    export_name);
    }
    return std::unique_ptr<PeerProgress>(new PeerProgress(std::move(*link)));
}

void PeerProgress::look() {
    if (asking_.exchange(true)) {
        return;
    }
    asked_at_ = std::chrono::steady_clock::now();
    link_->read(answer_, 0, [this](const Result<void>& result) {
        if (result) {
            take_answer();
        }
        asking_.store(false);
    });
}

/// Counted from the question, not from the answer: a disk that has begun to hang is not to be
/// waited for longer because the link is slow.
void PeerProgress::take_answer() noexcept {
    const WorkReport report = load_work_report(answer_);
    for (std::size_t lane = 0; lane < work_lanes; ++lane) {
        if (report[lane]) {
            progress_[lane].store(asked_at_ - *report[lane], std::memory_order_relaxed);
        }
    }
}

SteadyTime PeerProgress::last_progress(std::size_t lane) const noexcept {
    return lane < work_lanes ? progress_[lane].load(std::memory_order_relaxed) : SteadyTime{};
}

}  // namespace mirror::nbd
