// SPDX-License-Identifier: BSD-3-Clause
// What a bundle for support is put together from: parts by name, each of which was taken or left
// out, with the reason. Keys are taken out of everything. Main thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "tools/session.hpp"
#include "tools/support/archive.hpp"
#include "tools/support/bounded.hpp"
#include "tools/support/redactor.hpp"

namespace mirror::tools {

class Bundle {
  public:
    explicit Bundle(World& world) : world_(world) {}

    /// Looks in a thread of its own, which is left behind when it is late.
    void take(const std::string& name, std::chrono::milliseconds limit, Look look);
    void take_output(const std::string& name, const std::vector<std::string>& program,
                     std::chrono::milliseconds limit);
    /// What was found out already.
    void add(const std::string& name, const Result<std::string>& found,
             std::chrono::duration<double> took = {});
    void know(const tls::Secret& key) { redactor_.add(key); }

    struct LeftOut {
        std::string name;
        std::string why;
    };
    [[nodiscard]] const std::vector<LeftOut>& left_out() const noexcept { return left_out_; }
    [[nodiscard]] std::size_t parts() const noexcept { return files_.size(); }
    /// With the list of contents; after this nothing is added.
    [[nodiscard]] std::string tar(const std::string& folder);

  private:
    [[nodiscard]] std::string contents() const;

    World& world_;
    Redactor redactor_;
    std::vector<ArchiveFile> files_;
    std::vector<LeftOut> left_out_;
    std::vector<std::string> lines_;  ///< of the list of contents
};

}  // namespace mirror::tools
