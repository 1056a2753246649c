// SPDX-License-Identifier: BSD-3-Clause
// The active's end of one session with a standby (docs/design.md, section 5): two control
// connections, three links, and one connection that tells how the standby's disk gets on. A session
// that is lost stays lost; the next one is a new object.
//
// Shared by the peer's supervisor and by every write in flight. The last one to let go joins the
// links' threads, so the supervisor keeps its share until the session was taken out of use.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/checksum.hpp"
#include "core/base/clock.hpp"
#include "core/base/sync.hpp"
#include "core/config/config.hpp"
#include "core/control/mailbox.hpp"
#include "core/engine/large_work.hpp"
#include "core/lineage/generation.hpp"
#include "core/maps/bitmap.hpp"
#include "core/nbd/link.hpp"
#include "core/nbd/peer_progress.hpp"

namespace mirror {

struct PeerAddress {
    std::string node;  ///< for messages
    nbd::Address address;
    std::chrono::milliseconds timeout{5000};  ///< `peer_timeout`
};

/// From the configuration of a volume's node.
[[nodiscard]] PeerAddress peer_address(const Config& config, const VolumeConfig& volume,
                                       const std::string& node);

/// A control connection before and during a session. Requests are serialised: one that waits for
/// its answer holds up the next.
class PeerControl {
  public:
    /// For what may take the standby's disk a while: a request may take ten seconds, or
    /// `peer_timeout` where that is longer; half a minute if the disk gets on (believe()).
    [[nodiscard]] static Result<std::unique_ptr<PeerControl>> connect(const PeerAddress& peer);
    /// For what an application waits for: a request takes `peer_timeout` at most.
    [[nodiscard]] static Result<std::unique_ptr<PeerControl>> connect_urgent(
        const PeerAddress& peer);
    [[nodiscard]] Result<control::Json> ask(const control::Json& request) EXCLUDES(mutex_);
    /// Any thread, also while another one asks: whoever asks now or later gets an error at once.
    void lose(const std::string& reason) { client_.lose(reason); }
    [[nodiscard]] const std::optional<tls::Proof>& proof() const noexcept {
        return client_.proof();
    }
    /// What is asked may take the standby's disk long, as long as it gets on. Before the next
    /// request; `signs` outlives this.
    void believe(nbd::SignsOfLife& signs) { client_.believe(signs, nbd::control_lane); }

  private:
    explicit PeerControl(control::MailboxClient client) : client_(std::move(client)) {}
    [[nodiscard]] static Result<std::unique_ptr<PeerControl>> connect_with(
        const PeerAddress& peer, std::chrono::milliseconds deadline);

    Mutex mutex_;  ///< one request at a time
    control::MailboxClient client_;
};

class Session {
  public:
    /// Asks the standby to begin (closing older sessions), then opens the links. `on_lost` is
    /// called at most once, from a link's thread, before any command of that link fails.
    struct Start {
        std::string volume;
        std::string own_node;
        SessionId id;
        bool resync = false;
        std::uint64_t step = 0;
    };
    [[nodiscard]] static Result<std::shared_ptr<Session>> begin(
        const PeerAddress& peer, std::unique_ptr<PeerControl> control, const Start& start);
    virtual ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// From here on a loss is reported; one that happened before is reported at once.
    void watch(const std::function<void(const Error&)>& on_lost);

    [[nodiscard]] const SessionId& id() const noexcept { return id_; }
    /// Whether the standby was told that a resync follows.
    [[nodiscard]] bool begun_with_resync() const noexcept { return resync_; }
    [[nodiscard]] const std::string& peer_node() const noexcept { return peer_.node; }
    /// Application writes and flushes.
    [[nodiscard]] nbd::Link& data() noexcept { return *data_; }
    /// Resync writes, and the look after an idle peer.
    [[nodiscard]] nbd::Link& bulk() noexcept { return *bulk_; }
    [[nodiscard]] nbd::Link& digests() noexcept { return *digests_; }
    /// For changes on the data link that are large; smaller ones are what the doors let through.
    [[nodiscard]] LargeWork& large_work() noexcept { return large_work_; }
    /// What TLS has shown of the peer on each of the connections; none: not encrypted, or over.
    [[nodiscard]] std::vector<tls::Proof> proofs() EXCLUDES(mutex_);
    /// With what they were opened; null: not encrypted.
    [[nodiscard]] const std::shared_ptr<const tls::Credentials>& credentials() const noexcept {
        return peer_.address.tls;
    }
    [[nodiscard]] SteadyTime last_answer() const noexcept {
        return std::max({data_->last_answer(), bulk_->last_answer(), digests_->last_answer()});
    }
    [[nodiscard]] const Digester& digester() const noexcept { return digester_; }

    /// Ends all links; reported as a loss for this reason.
    virtual void lose(const std::string& reason);
    [[nodiscard]] bool is_lost() const noexcept { return lost_.load(); }
    /// Why a link was lost; none while none is.
    [[nodiscard]] std::optional<Error> loss() EXCLUDES(mutex_);

    /// `step`: the newest that was taken here.
    [[nodiscard]] virtual Result<void> tell_synced(const Lineage& lineage, std::uint64_t step);
    /// `urgent`: a write waits for it, so it takes `peer_timeout` at most.
    [[nodiscard]] virtual Result<void> tell_step(std::uint64_t step, bool urgent);
    /// The disk here failed: from `lineage` on the standby is to have everything alone. First it is
    /// asked to take the generation; once that is agreed and written down here, it is told
    /// (`confirmed`) that it may be promoted without asking us. In between neither may, so that an
    /// answer that never comes leaves one node at most that believes so. Takes `peer_timeout` at
    /// most.
    [[nodiscard]] virtual Result<void> tell_generation(const Lineage& lineage, bool confirmed);
    /// The standby lacks so many bytes still; `why` is for people there.
    [[nodiscard]] Result<void> tell_incomplete(std::uint64_t lacking_bytes, const std::string& why);
    /// How far the comparison is and what it found, for the standby to keep.
    [[nodiscard]] Result<void> tell_verify(const control::Json& record);
    /// `demote` or `disconnect`.
    [[nodiscard]] Result<void> tell_end(const std::string& reason);

  protected:
    /// Not begun, without links. The model test derives a session from it that speaks to a replica
    /// in the same process.
    Session(PeerAddress peer, std::unique_ptr<PeerControl> control, std::string volume,
            const SessionId& id, bool resync);
    void mark_lost() noexcept { lost_ = true; }

  private:
    [[nodiscard]] control::Json message(const char* request) const;
    /// What the control connection and the links ask when they wait for an answer.
    [[nodiscard]] Result<void> watch_progress();
    [[nodiscard]] Result<void> open_links();
    void link_lost(const Error& error);

    const PeerAddress peer_;
    const std::string volume_;
    const SessionId id_;
    const bool resync_;
    const Digester digester_;
    std::unique_ptr<PeerControl> control_;  ///< taken out at the end, as the links are
    std::unique_ptr<PeerControl> urgent_;   ///< set before the session is anybody else's
    std::atomic<bool> lost_{false};

    Mutex mutex_;
    bool ending_ GUARDED_BY(mutex_) = false;  ///< on purpose: the links go before the answer comes
    std::function<void(const Error&)> on_lost_ GUARDED_BY(mutex_);
    std::optional<Error> loss_ GUARDED_BY(mutex_);

    // Set once while the session begins, and taken out at its end; both under the mutex, since a
    // link's thread looks at the others when it is lost. In between they stay where they are.
    std::unique_ptr<nbd::Link> data_;
    std::unique_ptr<nbd::Link> bulk_;
    std::unique_ptr<nbd::Link> digests_;
    std::unique_ptr<nbd::PeerProgress> progress_;  ///< null: an older standby
    LargeWork large_work_;
};

/// The regions that a standby which was active before names in VOLUME/changes.
[[nodiscard]] Result<Bitmap> read_changes(const PeerAddress& peer, const std::string& volume,
                                          std::uint64_t volume_size);

}  // namespace mirror
