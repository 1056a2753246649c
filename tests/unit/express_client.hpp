// SPDX-License-Identifier: BSD-3-Clause
// A mirror that is in sync, with the engine's express door open and a client connected to it.
#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "core/base/json.hpp"
#include "core/engine/express_door.hpp"
#include "core/nbd/link.hpp"
#include "mirror_pair.hpp"

namespace mirror::test {

/// A client with many requests under way.
class ExpressClient {
  public:
    explicit ExpressClient(const std::string& socket) {
        auto link = nbd::Link::connect({.unix_path = socket}, "r0", {.deadline = 60s});
        REQUIRE_MESSAGE(link, link.error().text());
        link_ = std::move(*link);
    }
    using Answer = std::shared_ptr<std::promise<Result<void>>>;

    [[nodiscard]] nbd::Link& link() { return *link_; }
    [[nodiscard]] std::future<Result<void>> write(const Bytes& data, std::uint64_t offset,
                                                  bool fua = false) {
        auto answer = std::make_shared<std::promise<Result<void>>>();
        auto future = answer->get_future();
        link_->write(data, offset, fua,
                     [answer](Result<void> result) { answer->set_value(std::move(result)); });
        return future;
    }
    [[nodiscard]] std::future<Result<void>> flush() {
        auto answer = std::make_shared<std::promise<Result<void>>>();
        auto future = answer->get_future();
        link_->flush([answer](Result<void> result) { answer->set_value(std::move(result)); });
        return future;
    }
    [[nodiscard]] Bytes read(ByteRange range) {
        Bytes data(range.length);
        const auto read = link_->read(data, range.offset);
        CHECK_MESSAGE(read, read.error().text());
        return data;
    }

  private:
    std::unique_ptr<nbd::Link> link_;
};

struct Express {
    explicit Express(MirrorPair::Options options = {}) : pair(options) {
        REQUIRE(pair.wait_in_sync());
        auto opened = ExpressDoor::open(pair.volume(), socket);
        REQUIRE_MESSAGE(opened, opened.error().text());
        door = std::move(*opened);
        REQUIRE(door->serve());
        client = std::make_unique<ExpressClient>(socket);
    }
    std::uint64_t counted(const char* which) { return pair.status()["express"][which]; }

    MirrorPair pair;
    const TempDir directory;
    const std::string socket = directory.file("s");
    std::unique_ptr<ExpressDoor> door;
    std::unique_ptr<ExpressClient> client;
};

}  // namespace mirror::test
