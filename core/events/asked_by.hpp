// SPDX-License-Identifier: BSD-3-Clause
// Who asked for what a thread is doing, so that each event that comes of it says so: an account
// that nobody has to remember to keep. Whoever takes a request opens a scope in the thread that
// carries it out; the event log looks it up. What another node says of itself is marked as not
// proven. Any thread; each one has its own.
#pragma once

#include <optional>
#include <string>
#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>

namespace mirror {

struct AskedBy {
    enum class Kind {
        local,  ///< on a Unix socket: `uid`, by the kernel
        node,   ///< over the network: `key` and `address`, `node` as far as it is known
    };

    Kind kind = Kind::local;
    std::optional<uid_t> uid{};
    std::string node{};      ///< empty: it did not say
    bool is_proven = false;  ///< the node, by a certificate or a key of its own
    std::string key{};       ///< the name of the pre-shared key; empty: none
    std::string address{};
    /// Who asked that node, as it says: the user there.
    std::optional<uid_t> for_uid{};

    /// Null outside of every scope: nobody asked for it.
    [[nodiscard]] static const AskedBy* current() noexcept;
};

/// From its making to its end `who` asks for what this thread does.
class AskedByScope {
  public:
    explicit AskedByScope(AskedBy who);
    ~AskedByScope();
    AskedByScope(const AskedByScope&) = delete;
    AskedByScope& operator=(const AskedByScope&) = delete;

  private:
    const AskedBy who_;
    const AskedBy* const before_;
};

/// As in the event log: `kind`, and `uid`, or `node`, `proven`, `key`, `address`, `for_uid`.
[[nodiscard]] nlohmann::ordered_json to_json(const AskedBy& who);

}  // namespace mirror
