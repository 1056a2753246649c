// SPDX-License-Identifier: BSD-3-Clause
// The world of the model test: two nodes, a wire, people and accidents. One random move after the
// other; after each the invariants are checked. Everything follows from the seed. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "core/lineage/promotion.hpp"
#include "model_active.hpp"

namespace mirror::test {

class ModelWorld {
  public:
    explicit ModelWorld(std::uint64_t seed);
    ~ModelWorld();
    ModelWorld(const ModelWorld&) = delete;
    ModelWorld& operator=(const ModelWorld&) = delete;

    void step();
    /// No more accidents: people make the mirror whole again, and both replicas must get equal.
    void recover();
    [[nodiscard]] const std::string& violation() const noexcept { return truth_.violation(); }
    /// The last moves, newest last, and how the nodes stand.
    [[nodiscard]] std::string trace() const;

    /// How often what came about: a run that never promotes shows nothing.
    struct Figures {
        std::uint64_t steps = 0, writes = 0, sessions = 0, promotions = 0, forced = 0, fenced = 0,
                      refused = 0, process_deaths = 0, power_losses = 0, cuts = 0, diverged = 0,
                      discarded = 0, demotes = 0, put_back = 0;
    };
    [[nodiscard]] Figures figures() const;

  private:
    enum class Wish { plain, force, fenced };

    [[nodiscard]] ModelNode& other(const ModelNode& node) { return nodes_[1 - node.number]; }
    [[nodiscard]] ModelActive::Parts parts_for(ModelNode& node);
    void format(ModelNode& node, const Superblock& first);
    void note(std::string what);

    void move();
    void act_as_active(ModelNode& node);
    void act_outside(ModelNode& node);
    void interlude(ModelNode& node);
    void have_an_accident(ModelNode& node);
    void bury_the_dead();
    void take_image(const ModelNode& node);
    void put_back(ModelNode& node);

    [[nodiscard]] std::optional<ReplicaSummary> hear_of(ModelNode& node);
    void open_standby(ModelNode& node);
    void start_engine(ModelNode& node);
    void restart(ModelNode& node);
    void demote(ModelNode& node);
    void promote(ModelNode& node, Wish wish);
    [[nodiscard]] bool get_agreement(ModelNode& node);
    void switch_to(ModelNode& node);
    void learn_of_break(ModelNode& node);
    void discard(ModelNode& node);
    void recover_one_step(unsigned turn);

    ModelRandom random_;
    ModelClock clock_;
    EventLog events_;
    ModelWire wire_;
    ModelTruth truth_;
    std::array<ModelNode, 2> nodes_;
    VolumeId volume_{};
    Version newest_ = 0;
    std::uint64_t newest_generation_ = 1;
    std::size_t sessions_ = 0;
    std::size_t steps_raised_ = 0;
    /// A copy of a machine's disks, as a snapshot makes it.
    struct Image {
        DataDisk disk;
        MetaDisk meta;
        ModelTruth::Standing standing{};
        Versions answered{};
        std::size_t steps_raised = 0;
    };
    std::array<std::optional<Image>, 2> images_;
    /// Generations of forced promotions that may or may not have reached the disk.
    struct Fork {
        GenerationId generation{};
        bool named_loss = false;
        bool fenced = false;
    };
    std::array<std::optional<Fork>, 2> forks_;
    std::array<bool, 2> rebooted_{};
    bool quiet_ = false;  ///< no accidents
    unsigned depth_ = 0;
    Figures figures_;
    std::deque<std::string> moves_;
};

}  // namespace mirror::test
