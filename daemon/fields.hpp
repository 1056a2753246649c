// SPDX-License-Identifier: BSD-3-Clause
// Typed access to a request's or an answer's fields. Both come from elsewhere: a missing field or
// one of the wrong type is an error that names it, never an exception. Values; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "core/base/error.hpp"

namespace mirror::daemon {

class Fields {
  public:
    /// `what` names the message in errors: "request promote". `object` must outlive this.
    Fields(const nlohmann::json& object, std::string what)
        : object_(object), what_(std::move(what)) {}

    [[nodiscard]] Result<std::string> text(const char* name) const;
    /// Nothing when it is missing or null.
    [[nodiscard]] Result<std::optional<std::string>> optional_text(const char* name) const;
    /// A missing flag is false.
    [[nodiscard]] Result<bool> flag(const char* name) const;
    [[nodiscard]] Result<std::uint64_t> number(const char* name) const;
    [[nodiscard]] Result<nlohmann::json> object(const char* name) const;

  private:
    [[nodiscard]] const nlohmann::json* find(const char* name) const;
    [[nodiscard]] Failure wrong(const char* name, const char* expected) const;

    const nlohmann::json& object_;
    std::string what_;
};

}  // namespace mirror::daemon
