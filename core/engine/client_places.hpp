// SPDX-License-Identifier: BSD-3-Clause
// How many clients may be at nbdkit's door at once, of those who may only do I/O: each costs
// threads and memory that nobody else bounds. The plugin takes a place for a connection before
// nbdkit starts its threads, and gives it back with the connection. Any thread; places go before
// this does.
#pragma once

#include <utility>

#include "core/base/sync.hpp"

namespace mirror {

class ClientPlaces {
  public:
    explicit ClientPlaces(int most) noexcept : left_(most) {}
    ClientPlaces(const ClientPlaces&) = delete;
    ClientPlaces& operator=(const ClientPlaces&) = delete;

    /// Given back when it goes. Empty: there was none.
    class Place {
      public:
        Place() = default;
        explicit Place(ClientPlaces& places) noexcept : places_(&places) {}
        Place(Place&& other) noexcept : places_(std::exchange(other.places_, nullptr)) {}
        Place& operator=(Place&& other) = delete;
        ~Place() {
            if (places_ != nullptr) {
                places_->give_back();
            }
        }
        [[nodiscard]] bool is_taken() const noexcept { return places_ != nullptr; }

      private:
        ClientPlaces* places_ = nullptr;
    };

    [[nodiscard]] Place take() noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        if (left_ == 0) {
            return {};
        }
        --left_;
        return Place(*this);
    }

    /// Whether nobody was told of a refusal since a place was given back: who is refused may try
    /// again thousands of times a second, and the log needs it once.
    [[nodiscard]] bool first_refusal() noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        return !std::exchange(told_, true);
    }

  private:
    void give_back() noexcept EXCLUDES(mutex_) {
        MutexLock lock(mutex_);
        ++left_;
        told_ = false;
    }

    Mutex mutex_;
    int left_ GUARDED_BY(mutex_);
    bool told_ GUARDED_BY(mutex_) = false;
};

}  // namespace mirror
