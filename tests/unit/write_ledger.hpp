// SPDX-License-Identifier: BSD-3-Clause
// What an application asked of a volume, what was acknowledged, and so what each block may hold:
// for requests that overlap in time. The order of two requests is known where one was answered
// before the other began. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/sync.hpp"
#include "core/base/units.hpp"
#include "core/store/store.hpp"

namespace mirror::test {

class WriteLedger {
  public:
    static constexpr std::uint64_t block = 4096;
    using Number = std::size_t;

    enum class Kind { write, write_fua, zero, flush, other };
    /// A request is about to be made. Ranges are whole blocks.
    [[nodiscard]] Number begin(Kind kind, ByteRange range);
    /// The bytes of this write.
    [[nodiscard]] static std::vector<std::byte> bytes_of(Number number, std::uint64_t length);
    /// Its answer. One that failed may have been done, and nothing of it comes later.
    void end(Number number, bool acknowledged);

    /// The application's machine died: what has no answer by now gets none. Where its power failed,
    /// only what was made durable is promised from here on.
    void machine_died(bool lost_power);

    enum class Promise {
        acknowledged,  ///< by whoever has not lost its power
        durable,       ///< by all
    };
    /// Whether `disk` has everything that is promised; else the first thing that it lacks.
    [[nodiscard]] std::optional<std::string> missing(Store& disk, Promise promise) const;
    /// All blocks that were ever written.
    [[nodiscard]] std::vector<std::uint64_t> blocks() const;

  private:
    struct Request {
        Kind kind = Kind::other;
        ByteRange range;
        std::size_t begun = 0;
        std::size_t ended = never;
        bool acknowledged = false;
        bool durable = false;
    };
    static constexpr std::size_t never = ~std::size_t{0};

    [[nodiscard]] bool may_be(std::optional<Number> found, std::uint64_t offset,
                              Promise promise) const REQUIRES(mutex_);
    [[nodiscard]] std::string describe(std::optional<Number> found, std::uint64_t offset,
                                       Promise promise) const REQUIRES(mutex_);
    [[nodiscard]] static bool promised(const Request& request, Promise promise) {
        return promise == Promise::durable ? request.durable : request.acknowledged;
    }
    void make_durable(std::size_t before) REQUIRES(mutex_);

    mutable Mutex mutex_;
    std::size_t clock_ GUARDED_BY(mutex_) = 0;
    std::vector<Request> requests_ GUARDED_BY(mutex_);
};

}  // namespace mirror::test
