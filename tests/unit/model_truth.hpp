// SPDX-License-Identifier: BSD-3-Clause
// What the model test knows and the nodes do not: which writes were answered, which were flushed,
// who decided what by force. It judges every activation and every session by that. A line is what
// the application's view of the volume was, from one decision by force to the next.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "model_machine.hpp"

namespace mirror::test {

class ModelTruth {
  public:
    static constexpr std::size_t none = ~std::size_t{0};

    /// Which nodes got the write, or were flushed.
    using Parties = std::array<bool, 2>;

    ModelTruth();

    /// The first thing that was wrong; empty: nothing yet.
    [[nodiscard]] const std::string& violation() const noexcept { return violation_; }
    void violated(const std::string& what);

    /// `kept`: the power of that node has not failed since it got the write.
    void answered(std::size_t active, std::size_t first_unit, std::size_t count, Version version,
                  Parties parties, Parties kept);
    /// What was answered when a flush is issued; later answers are not its business.
    [[nodiscard]] const Versions& answered_so_far(std::size_t active) const;
    void flushed(std::size_t active, const Versions& answered, Parties parties);
    void lost_power(std::size_t node);
    [[nodiscard]] unsigned power_losses(std::size_t node) const { return power_losses_[node]; }

    /// A node begins to serve what it holds; nobody decided that by force.
    void serves(std::size_t node, const Versions& content, bool other_is_active);
    /// A person or a cluster manager promoted the node, by force or not.
    void decided(std::size_t node) { decided_at_[node] = lines_.size(); }
    /// Nobody did: it was active before. Beside serves().
    void goes_on_by_itself(std::size_t node);
    /// The same by --force or --fenced. `named_loss`: whether a loss was shown.
    void serves_by_force(std::size_t node, const DataDisk& disk, bool named_loss, bool fenced);
    /// One that was put back, and can ask nobody, serves what it holds.
    void serves_unknowingly(std::size_t node, const DataDisk& disk);
    /// From here on the target is overwritten with the source's data.
    void overwrites(std::size_t source, std::size_t target);
    /// The target holds a mixture from here on; only --force may set that aside.
    void half_overwritten(std::size_t target) {
        mixed_[target] = true;
        concluding_[target] = false;
    }
    void made_equal(std::size_t target) {
        mixed_[target] = concluding_[target] = forgot_[target] = false;
    }
    /// All was sent and the target is about to record it: should it die meanwhile, its disk tells
    /// whether it did.
    void concludes(std::size_t target) { concluding_[target] = true; }
    void starts_again(std::size_t target, bool up_to_date) {
        if (std::exchange(concluding_[target], false) && up_to_date) {
            mixed_[target] = false;
        }
    }
    /// A person gave this replica up.
    void discarded(std::size_t node) {
        line_of_[node] = none;
        mixed_[node] = false;
    }
    /// What is known of a replica beside its content.
    struct Standing {
        std::size_t line = none;
        bool mixed = false;
    };
    [[nodiscard]] Standing standing(std::size_t node) const {
        return {line_of_[node], mixed_[node]};
    }
    /// It has the content that it had then.
    void put_back(std::size_t node, const Standing& then) {
        line_of_[node] = then.line;
        mixed_[node] = then.mixed;
        concluding_[node] = false;
    }
    /// It does not know what it took part in: until it is made equal, or a person decides.
    void forgets(std::size_t node) { forgot_[node] = true; }
    [[nodiscard]] bool forgot(std::size_t node) const noexcept { return forgot_[node]; }
    /// Whether `content` has all that was answered in the line of `node`.
    [[nodiscard]] bool has_all(std::size_t node, const Versions& content) const;
    [[nodiscard]] bool same_line() const noexcept { return line_of_[0] == line_of_[1]; }

  private:
    struct Line {
        std::size_t parent = none;
        bool parent_went_on = false;  ///< answered something that is not in `base`
        bool unknowing = false;       ///< began without a person's decision
        Versions base{};              ///< what the line began with
        Versions answered{};
        /// What a node must hold to be allowed to serve: as it is, and after a loss of power.
        std::array<Versions, 2> least{};
        std::array<Versions, 2> least_after_power_loss{};
    };

    std::vector<Line> lines_;
    std::array<std::size_t, 2> line_of_{0, 0};
    std::array<std::size_t, 2> decided_at_{};  ///< how many lines there were then
    std::array<unsigned, 2> power_losses_{};
    std::array<bool, 2> mixed_{};
    std::array<bool, 2> concluding_{};
    std::array<bool, 2> forgot_{};
    std::string violation_;
};

}  // namespace mirror::test
