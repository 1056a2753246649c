// SPDX-License-Identifier: BSD-3-Clause
#include "model_machine.hpp"

#include <algorithm>

namespace mirror::test {
namespace {

Failure dead() {
    return fail(ErrorKind::io, "the machine is gone");
}

/// Units within a byte range; writes cover units whole.
template <typename Act>
void for_units_in(ByteRange range, Act act) {
    for (std::size_t unit = 0; unit < model_units; ++unit) {
        const std::uint64_t offset = offset_of_unit(unit);
        if (offset >= range.offset && offset < range.end()) {
            act(unit, offset - range.offset);
        }
    }
}

class DataStore final : public Store {
  public:
    explicit DataStore(ModelMachine& machine) : machine_(machine) {}

    [[nodiscard]] std::uint64_t size() const noexcept override { return model_volume_size; }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        for_units_in({offset, into.size()}, [&](std::size_t unit, std::uint64_t at) {
            std::memcpy(&into[at], &machine_.disk.now()[unit], sizeof(Version));
        });
        return {};
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        if (machine_.fuse.blown() != Death::none) {
            return dead();
        }
        // The access at which the power fails may be torn.
        const bool lives = machine_.fuse.access();
        if (lives || machine_.fuse.blown() == Death::power) {
            for_units_in({offset, from.size()}, [&](std::size_t unit, std::uint64_t at) {
                Version version = 0;
                std::memcpy(&version, &from[at], sizeof version);
                machine_.disk.write(unit, version);
            });
        }
        return lives ? Result<void>{} : dead();
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space) override {
        if (!machine_.fuse.access()) {
            return dead();
        }
        for_units_in(range, [&](std::size_t unit, std::uint64_t) { machine_.disk.write(unit, 0); });
        return {};
    }
    [[nodiscard]] Result<void> flush() override {
        if (!machine_.fuse.access()) {
            return dead();
        }
        machine_.disk.flush();
        return {};
    }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return std::vector<Extent>{{range, false}};
    }

  private:
    ModelMachine& machine_;
};

class MetaStore final : public Store {
  public:
    explicit MetaStore(ModelMachine& machine) : machine_(machine) {}

    [[nodiscard]] std::uint64_t size() const noexcept override { return machine_.meta.size(); }
    [[nodiscard]] Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        std::memcpy(into.data(), machine_.meta.at(offset), into.size());
        return {};
    }
    [[nodiscard]] Result<void> write(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
        if (machine_.fuse.blown() != Death::none) {
            return dead();
        }
        // The access at which the power fails may be torn.
        const bool lives = machine_.fuse.access();
        if (lives || machine_.fuse.blown() == Death::power) {
            machine_.meta.write(from, offset);
        }
        return lives ? Result<void>{} : dead();
    }
    [[nodiscard]] Result<void> zero(ByteRange range, Space) override {
        const std::vector<std::byte> zeroes(range.length);
        return write(zeroes, range.offset);
    }
    [[nodiscard]] Result<void> flush() override {
        if (!machine_.fuse.access()) {
            return dead();
        }
        machine_.meta.flush();
        return {};
    }
    [[nodiscard]] Result<std::vector<Extent>> extents(ByteRange range) override {
        return std::vector<Extent>{{range, false}};
    }

  private:
    ModelMachine& machine_;
};

}  // namespace

std::unique_ptr<Store> ModelMachine::open_disk() {
    return std::make_unique<DataStore>(*this);
}

std::unique_ptr<Store> ModelMachine::open_meta() {
    return std::make_unique<MetaStore>(*this);
}

}  // namespace mirror::test
