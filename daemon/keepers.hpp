// SPDX-License-Identifier: BSD-3-Clause
// The keepers of this node's volumes. A reload adds and removes some while connections' threads and
// the watches go through them.
//
// Lifetime. No keeper and no version of the set is ever destroyed before this object is. So whoever
// has a pointer, an iterator or a reference from here may keep and use it, without a lock, for as
// long as this object lives: a request in the middle of a keeper's function, the watchdog, the
// watches, the peers' threads, a promotion at boot, a lease. main declares this before all of those
// and joins their threads first (serve()); a keeper's own supervisor ends with retire() or stop().
// A loop sees the set as it was when it began.
//
// What a keeper that was removed may still do is nothing: retire() ended its supervisor and its
// replica, and it keeps its operation until it is destroyed, so that begin() is `busy` for ever and
// replica() never gives a lease again. A name can have one keeper that is not retired at most,
// since the next one is made after retire() has returned.
//
// The price is some memory and one descriptor for each keeper that a reload retires.
//
// Reading from any thread; put() and remove() from one at a time (daemon/reload.hpp, and main
// before the first reader).
#pragma once

#include <atomic>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {

class Keepers {
  public:
    using Map = std::map<std::string, VolumeKeeper*>;

    Keepers() { publish({}); }

    /// Goes through the set of one moment: it knows its own end.
    class Iterator {
      public:
        Iterator(Map::const_iterator at, Map::const_iterator end) : at_(at), end_(end) {}
        const Map::value_type& operator*() const { return *at_; }
        const Map::value_type* operator->() const { return &*at_; }
        Iterator& operator++() {
            ++at_;
            return *this;
        }
        friend bool operator==(const Iterator& iterator, std::default_sentinel_t) {
            return iterator.at_ == iterator.end_;
        }

      private:
        Map::const_iterator at_;
        Map::const_iterator end_;
    };

    [[nodiscard]] Iterator begin() const {
        const Map& map = now();
        return {map.begin(), map.end()};
    }
    [[nodiscard]] static std::default_sentinel_t end() noexcept { return {}; }
    [[nodiscard]] Iterator find(const std::string& name) const {
        const Map& map = now();
        return {map.find(name), map.end()};
    }
    [[nodiscard]] VolumeKeeper* at(const std::string& name) const { return now().at(name); }
    [[nodiscard]] std::size_t size() const noexcept { return now().size(); }

    /// In place of one of the same name.
    VolumeKeeper& put(std::unique_ptr<VolumeKeeper> keeper) {
        VolumeKeeper& added = *keeper;
        owned_.push_back(std::move(keeper));
        Map next = now();
        next[added.name()] = &added;
        publish(std::move(next));
        return added;
    }
    void remove(const std::string& name) {
        Map next = now();
        next.erase(name);
        publish(std::move(next));
    }

  private:
    [[nodiscard]] const Map& now() const noexcept { return *now_.load(std::memory_order_acquire); }
    void publish(Map next) {
        maps_.push_back(std::make_unique<const Map>(std::move(next)));
        now_.store(maps_.back().get(), std::memory_order_release);
    }

    std::vector<std::unique_ptr<VolumeKeeper>> owned_;
    std::vector<std::unique_ptr<const Map>> maps_;
    std::atomic<const Map*> now_{nullptr};
};

}  // namespace mirror::daemon
