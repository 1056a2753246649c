// SPDX-License-Identifier: BSD-3-Clause
// Answers about each of many volumes, which together may be larger than a mailbox. Who asks with a
// field `from` gets them in the order of their names, as many as fit, and in `next` the name to ask
// on from (null: that was all). Who asks without gets all in one answer, or the error that it does
// not fit. Pure; any thread.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/json.hpp"

namespace mirror::control {

/// What belongs into one answer.
class Page {
  public:
    /// So much of a mailbox that what stands around the entries fits, too.
    static constexpr std::size_t most_bytes = 512 * 1024;

    /// Fails where `from` is no text.
    [[nodiscard]] static Result<Page> asked_for_by(const nlohmann::json& request);

    /// Names are asked about in their order. False: it is on another page.
    [[nodiscard]] bool wants(const std::string& name) const;
    /// Counts an entry. False: there is no room for it, and it is where the next page begins.
    [[nodiscard]] bool has_room_for(const std::string& name, const nlohmann::json& entry);
    /// Into the answer: where to ask on, for who asked for a page.
    void note_next(nlohmann::json& answer) const;

  private:
    bool is_paged_ = false;
    std::string from_;
    std::size_t bytes_ = 0;
    std::optional<std::string> next_;
};

using Ask = std::function<Result<nlohmann::json>(const nlohmann::json& request)>;

/// Asks for one page after the other. The answer is the first one, in which the objects or lists of
/// these names have what the others brought. A peer that knows no pages answers with all at once.
[[nodiscard]] Result<nlohmann::json> ask_for_pages(const Ask& ask, nlohmann::json request,
                                                   const std::vector<std::string>& joined);

}  // namespace mirror::control
