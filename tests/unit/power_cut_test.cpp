// SPDX-License-Identifier: BSD-3-Clause
// The power fails at every write and every flush of a scenario, on one node or on both, and of what
// was not flushed any part stays, sector by sector. Then everything starts again, and the promises
// are checked on the disks.
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "history.hpp"
#include "mirror_pair.hpp"

using namespace mirror;
using namespace mirror::test;

namespace {

constexpr std::uint64_t size = 2 * MiB + 20 * KiB;

std::string name_of(Victim victim) {
    return victim == Victim::alpha ? "alpha" : victim == Victim::beta ? "beta" : "both";
}

/// Which unflushed sectors stay: none, all, the late ones alone, or any.
constexpr unsigned sorts_of_loss = 4;
Kept kept_by(unsigned sort, std::uint64_t number) {
    switch (sort) {
        case 0:
            return [](std::size_t) { return false; };
        case 1:
            return [](std::size_t) { return true; };
        case 2:
            return [least = 1 + number % 12](std::size_t i) { return i >= least; };
        default:
            return [random = std::minstd_rand(static_cast<unsigned>(number) + 1)](
                       std::size_t) mutable { return random() % 2 == 0; };
    }
}

/// A pair, what happened to it, and one step after the other until alpha is gone.
class Scenario {
  public:
    explicit Scenario(Victim victim)
        : victim_(victim), pair_({.size = size, .one_power = victim == Victim::both}) {
        in_sync_ = pair_.wait_in_sync();
        REQUIRE(in_sync_);
    }
    MirrorPair& pair() { return pair_; }
    Power& power() { return victim_ == Victim::beta ? *pair_.beta.power : *pair_.alpha.power; }

    void write(ByteRange range, Durability durability = Durability::cached) {
        if (alpha_runs()) {
            const Bytes bytes = history_.write(range);
            note(pair_.volume().write(bytes, range.offset, durability), range, durability);
        }
    }
    void zero(ByteRange range, Durability durability = Durability::cached) {
        if (alpha_runs()) {
            history_.zero(range);
            note(pair_.volume().zero(range, Space::may_free, durability), range, durability);
        }
    }
    void flush() {
        if (alpha_runs()) {
            note(pair_.volume().flush(), history_.everything(), Durability::fua, true);
        }
    }
    void checkpoint() {
        if (alpha_runs()) {
            (void)pair_.volume().checkpoint();
        }
    }
    void cut_link() {
        if (link_up_ && alpha_runs() && beta_runs()) {
            in_sync_ = false;
            link_up_ = false;
            pair_.cut();
            CHECK((pair_.wait_alone() || !alpha_runs()));
        }
    }
    void restore_link() {
        if (!link_up_ && alpha_runs() && beta_runs()) {
            link_up_ = true;
            pair_.restore();
        }
    }
    void wait_in_sync() {
        if (link_up_ && alpha_runs() && beta_runs()) {
            in_sync_ = pair_.wait_in_sync();
        }
    }

    /// Whether the promises held. Everything runs again afterwards, in sync.
    void recover(const Kept& kept) {
        power().cut();
        pair_.lose_power(victim_, kept);
        check_survivors();
        pair_.start_again();
        for (int cuts = 0; !pair_.active_runs() || !pair_.wait_in_sync(); ++cuts) {
            // The next cut came already.
            REQUIRE(cuts < 5);
            power().cut();
            pair_.lose_power(victim_, kept);
            pair_.start_again();
        }
        in_sync_ = true;
        link_up_ = true;
        check_recovered();
    }

  private:
    [[nodiscard]] bool alpha_runs() { return pair_.active_runs() && !pair_.alpha.power->is_off(); }
    [[nodiscard]] bool beta_runs() { return !pair_.beta.power->is_off(); }

    void note(const Result<void>& answer, ByteRange range, Durability durability,
              bool is_flush = false) {
        if (!alpha_runs()) {
            return;  // nobody is there to hear the answer
        }
        // Whatever happens to the standby, the application does not notice.
        CHECK_MESSAGE(answer, answer.error().text());
        if (!is_flush) {
            history_.answered(range);
        }
        if (durability == Durability::fua) {
            history_.durable(range, History::Node::alpha);
            if (in_sync_ && beta_runs()) {
                history_.durable(range, History::Node::beta);
            }
        }
    }

    void check_survivors() {
        CHECK(history_.check(content(pair_.alpha.disk, {0, size}), History::Node::alpha,
                             victim_ == Victim::beta) == "");
        // Without a session beta is as old as its break.
        if (in_sync_) {
            CHECK(history_.check(content(pair_.beta.disk, {0, size}), History::Node::beta,
                                 victim_ == Victim::alpha) == "");
        }
    }

    void check_recovered() {
        const Bytes alpha = content(pair_.alpha.disk, {0, size});
        CHECK(history_.check(alpha, History::Node::alpha, victim_ == Victim::beta) == "");
        CHECK(alpha == content(pair_.beta.disk, {0, size}));
        const Superblock ours = superblock_on(pair_.alpha.meta);
        const Superblock theirs = superblock_on(*durable_image(pair_.beta.meta));
        CHECK(relate(ours.lineage, theirs.lineage) == Relation::equal);
        CHECK_FALSE(ours.solo);
        CHECK(theirs.state == ReplicaState::up_to_date);
        history_.begin_anew(alpha);
    }

    const Victim victim_;
    MirrorPair pair_;
    History history_{size};
    bool in_sync_ = false;
    bool link_up_ = true;
};

/// Cuts the power at every change of `steps`, with each sort of loss.
void cut_everywhere(Victim victim, const std::function<void(Scenario&)>& steps) {
    bool reached = true;
    std::uint64_t changes = 0;
    for (std::uint64_t at = 1; reached; ++at) {
        for (unsigned loss = 0; loss < sorts_of_loss; ++loss) {
            CAPTURE(name_of(victim));
            CAPTURE(at);
            CAPTURE(loss);
            Scenario scenario(victim);
            scenario.power().cut_at(scenario.power().changes() + at);
            steps(scenario);
            reached = scenario.power().is_off();
            scenario.recover(kept_by(loss, at));
            changes = at;
        }
    }
    MESSAGE(name_of(victim), ": the power failed at each of ", changes, " changes");
}

const auto victims = {Victim::alpha, Victim::beta, Victim::both};

}  // namespace

TEST_CASE("no loss of power at any point of plain writing breaks a promise") {
    for (const Victim victim : victims) {
        cut_everywhere(victim, [](Scenario& scenario) {
            scenario.write({0, 4096});
            scenario.write({MiB - 1024, 2048});
            scenario.flush();
            scenario.write({2048, 4096}, Durability::fua);
            scenario.zero({MiB, 8192});
            scenario.write({MiB + 512, 512});
            scenario.checkpoint();
            scenario.write({0, 1536});
            scenario.write({2 * MiB, 20 * KiB});
            scenario.flush();
            scenario.zero({0, 512}, Durability::fua);
            scenario.write({1024, 512});
        });
    }
}

TEST_CASE("no loss of power at any point of a break and a resync breaks a promise") {
    for (const Victim victim : victims) {
        cut_everywhere(victim, [](Scenario& scenario) {
            scenario.write({0, 64 * KiB});
            scenario.checkpoint();
            scenario.write({4096, 1024});
            scenario.flush();
            scenario.cut_link();
            scenario.write({MiB, 8192});
            scenario.write({2048, 4096}, Durability::fua);
            scenario.checkpoint();
            scenario.write({MiB + 4096, 512});
            scenario.restore_link();
            scenario.write({512, 1024});
            scenario.wait_in_sync();
            scenario.write({0, 1 * MiB});
            scenario.flush();
            scenario.checkpoint();
            scenario.write({2 * MiB, 4096}, Durability::fua);
        });
    }
}

TEST_CASE("no loss of power while the mirror connects after a break breaks a promise") {
    for (const Victim victim : victims) {
        cut_everywhere(victim, [](Scenario& scenario) {
            scenario.write({0, 8192});
            scenario.flush();
            scenario.cut_link();
            scenario.write({4096, 8192}, Durability::fua);
            // From here on the cuts fall into the handshake, the session's begin and the resync.
            scenario.restore_link();
            scenario.wait_in_sync();
        });
    }
}

TEST_CASE("metadata torn at any single sector, while the mirror breaks, loses nothing") {
    // What reaches the disk of the last superblock and map writes: all but one, or one alone.
    for (const Victim victim : {Victim::alpha, Victim::both}) {
        for (std::size_t torn = 0; torn < 2 * (superblock_slot_size / 512 + 1); ++torn) {
            CAPTURE(name_of(victim));
            CAPTURE(torn);
            Scenario scenario(victim);
            scenario.write({0, 4096}, Durability::fua);
            scenario.cut_link();
            // The next changes are the intent of a new region and the new generation.
            scenario.power().cut_at(scenario.power().changes() + 3 + torn % 3);
            scenario.write({MiB, 4096});
            scenario.recover(
                [torn](std::size_t i) { return torn % 2 == 0 ? i == torn / 2 : i != torn / 2; });
        }
    }
}

TEST_CASE("no loss of power in a long random run breaks a promise") {
    for (const Victim victim : victims) {
        std::minstd_rand random(42 + static_cast<unsigned>(victim));
        Scenario scenario(victim);
        for (unsigned round = 0; round < 60; ++round) {
            CAPTURE(name_of(victim));
            CAPTURE(round);
            const auto any = [&](std::uint64_t below) { return random() % below; };
            for (std::uint64_t steps = 5 + any(40); steps > 0; --steps) {
                const std::uint64_t sectors = any(20) == 0 ? any(2048) + 1 : any(64) + 1;
                const std::uint64_t first = any(size / 512 - sectors);
                const ByteRange range{first * 512, sectors * 512};
                const auto durability = any(4) == 0 ? Durability::fua : Durability::cached;
                switch (any(12)) {
                    case 0:
                        scenario.flush();
                        break;
                    case 1:
                        scenario.checkpoint();
                        break;
                    case 2:
                        scenario.zero(range, durability);
                        break;
                    case 3:
                        any(3) == 0 ? scenario.cut_link() : scenario.restore_link();
                        break;
                    case 4:
                        any(3) == 0 ? scenario.wait_in_sync() : scenario.restore_link();
                        break;
                    default:
                        scenario.write(range, durability);
                }
            }
            // Often while the next start compares and sends.
            const std::uint64_t next = any(2) == 0 ? 1 + any(40) : 1 + any(200);
            scenario.pair().plan_next_cut(next, next);
            scenario.recover(kept_by(round % sorts_of_loss, round));
        }
    }
}
