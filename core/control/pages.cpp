// SPDX-License-Identifier: BSD-3-Clause
#include "core/control/pages.hpp"

#include <utility>

#include "core/control/messages.hpp"

namespace mirror::control {
namespace {

using nlohmann::json;

void join(json& into, json& more) {
    if (into.is_array() && more.is_array()) {
        for (json& entry : more) {
            into.push_back(std::move(entry));
        }
    } else if (into.is_object() && more.is_object()) {
        into.update(more);
    }
}

/// Empty: there are no more. An answer that does not get further is asked no more.
Result<std::string> next_of(const json& answer, const std::string& from) {
    const auto next = optional_string_field(answer, "next");
    if (!next) {
        return Failure(next.error());
    }
    if (*next && **next <= from) {
        return fail(ErrorKind::protocol, "the answer's pages do not continue after '{}'", from);
    }
    return next->value_or("");
}

}  // namespace

Result<Page> Page::asked_for_by(const json& request) {
    const auto from = optional_string_field(request, "from");
    if (!from) {
        return Failure(from.error());
    }
    Page page;
    page.is_paged_ = from->has_value();
    page.from_ = from->value_or("");
    return page;
}

bool Page::wants(const std::string& name) const {
    return !next_ && name >= from_;
}

bool Page::has_room_for(const std::string& name, const json& entry) {
    const std::size_t size = entry.dump(-1, ' ', false, json::error_handler_t::replace).size();
    if (is_paged_ && bytes_ != 0 && bytes_ + size > most_bytes) {
        next_ = name;
        return false;
    }
    bytes_ += size;
    return true;
}

void Page::note_next(json& answer) const {
    if (is_paged_) {
        answer["next"] = next_ ? json(*next_) : json();
    }
}

Result<json> ask_for_pages(const Ask& ask, json request, const std::vector<std::string>& joined) {
    std::string from;
    request["from"] = from;
    Result<json> all = ask(request);
    if (!all) {
        return all;
    }
    auto next = next_of(*all, from);
    while (next && !next->empty()) {
        from = *next;
        request["from"] = from;
        auto page = ask(request);
        if (!page) {
            return page;
        }
        for (const std::string& name : joined) {
            if (all->contains(name) && page->contains(name)) {
                join((*all)[name], (*page)[name]);
            }
        }
        next = next_of(*page, from);
    }
    if (!next) {
        return Failure(next.error());
    }
    all->erase("next");
    return all;
}

}  // namespace mirror::control
