// SPDX-License-Identifier: BSD-3-Clause
#include "tools/support/bundle.hpp"

#include <utility>

namespace mirror::tools {
namespace {

constexpr std::size_t most_output = std::size_t{8} << 20;

}  // namespace

void Bundle::take(const std::string& name, std::chrono::milliseconds limit, Look look) {
    const SteadyTime start = world_.clock.steady_now();
    const auto found = look_within(limit, std::move(look));
    add(name, found, world_.clock.steady_now() - start);
}

void Bundle::take_output(const std::string& name, const std::vector<std::string>& program,
                         std::chrono::milliseconds limit) {
    const SteadyTime start = world_.clock.steady_now();
    const auto found = output_of(program, limit, most_output);
    add(name, found, world_.clock.steady_now() - start);
}

void Bundle::add(const std::string& name, const Result<std::string>& found,
                 std::chrono::duration<double> took) {
    if (!found) {
        // Its reason may quote a line.
        left_out_.push_back({name, redactor_.clean(found.error().text())});
        lines_.push_back(fmt::format("left out  {}: {}", name, left_out_.back().why));
        return;
    }
    files_.push_back({name, redactor_.clean(*found)});
    lines_.push_back(fmt::format("taken     {}: {} bytes, {:.1f} s", name,
                                 files_.back().content.size(), took.count()));
}

std::string Bundle::contents() const {
    std::string text = fmt::format(
        "mirrorctl support, version " MIRROR_VERSION
        ", {}\n\n"
        "No keys are in here: files of keys and certificates were not taken, and what looked like\n"
        "a key was removed from the rest ({} places). There are names of nodes, volumes, users'\n"
        "ids and paths, addresses, and parts of the logs of this machine.\n\n",
        format_rfc3339(world_.clock.wall_now()), redactor_.removed());
    for (const std::string& line : lines_) {
        text += line + '\n';
    }
    return text;
}

std::string Bundle::tar(const std::string& folder) {
    files_.insert(files_.begin(), ArchiveFile{"CONTENTS.txt", contents()});
    return tar_of(folder, files_, world_.clock.wall_now());
}

}  // namespace mirror::tools
