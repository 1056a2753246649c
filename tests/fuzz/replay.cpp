// SPDX-License-Identifier: BSD-3-Clause
// Runs what the corpora hold, without libFuzzer: replay CORPUS-DIRECTORY. What once broke something
// is tried again by every build, with and without sanitizers. A file that ends the process is the
// last one named.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "target.hpp"

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_in(const fs::path& folder) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder)) {
        files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
}

std::string content_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

int replay(const mirror::fuzz::Target& target, const fs::path& corpus) {
    const fs::path folder = corpus / target.name;
    if (!fs::is_directory(folder)) {
        std::fprintf(stderr, "%s is missing\n", folder.c_str());
        return 1;
    }
    for (const fs::path& path : files_in(folder)) {
        std::printf("%s\n", path.c_str());
        std::fflush(stdout);
        const std::string content = content_of(path);
        target.run(std::as_bytes(std::span(content)));
    }
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "usage: replay CORPUS-DIRECTORY\n");
        return 2;
    }
    int failed = 0;
    for (const mirror::fuzz::Target& target : mirror::fuzz::targets()) {
        failed |= replay(target, arguments[1]);
    }
    return failed;
}
