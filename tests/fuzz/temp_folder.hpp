// SPDX-License-Identifier: BSD-3-Clause
// A folder in memory for targets that need real files; removed when the program ends.
#pragma once

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "input.hpp"

namespace mirror::fuzz {

class TempFolder {
  public:
    TempFolder() {
        const bool has_shm = std::filesystem::is_directory("/dev/shm");
        path_ =
            (has_shm ? std::string("/dev/shm") : std::filesystem::temp_directory_path().string()) +
            "/mirrordisk-fuzz.XXXXXX";
        require(::mkdtemp(path_.data()) != nullptr, "there is a folder for files");
    }
    ~TempFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

  private:
    std::string path_;
};

[[nodiscard]] inline const std::string& temp_folder() {
    static const TempFolder folder;
    return folder.path();
}

}  // namespace mirror::fuzz
