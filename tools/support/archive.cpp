// SPDX-License-Identifier: BSD-3-Clause
#include "tools/support/archive.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <numeric>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "core/base/trusted_file.hpp"
#include "tools/support/bounded.hpp"

namespace mirror::tools {
namespace {

constexpr std::size_t block_size = 512;
using Block = std::array<char, block_size>;

struct Field {
    std::size_t at;
    std::size_t size;
};
constexpr Field name_field{0, 100};
constexpr Field mode_field{100, 8};
constexpr Field uid_field{108, 8};
constexpr Field gid_field{116, 8};
constexpr Field size_field{124, 12};
constexpr Field time_field{136, 12};
constexpr Field checksum_field{148, 8};
constexpr Field kind_field{156, 1};
constexpr Field magic_field{257, 8};
constexpr Field prefix_field{345, 155};

void put(Block& block, Field field, std::string_view text) {
    std::copy_n(text.begin(), std::min(text.size(), field.size),
                block.begin() + static_cast<std::ptrdiff_t>(field.at));
}

void put_number(Block& block, Field field, std::uint64_t number) {
    put(block, field, fmt::format("{:0{}o}", number, field.size - 1));
}

Block header(const std::string& folder, const ArchiveFile& file, std::uint64_t seconds) {
    Block block{};
    put(block, name_field, file.name);
    put_number(block, mode_field, 0600);
    put_number(block, uid_field, 0);
    put_number(block, gid_field, 0);
    put_number(block, size_field, file.content.size());
    put_number(block, time_field, seconds);
    put(block, kind_field, "0");
    put(block, magic_field, std::string_view("ustar\00000", 8));
    put(block, prefix_field, folder);
    // Summed with blanks in its own place.
    put(block, checksum_field, "        ");
    const unsigned sum = std::accumulate(
        block.begin(), block.end(), 0U,
        [](unsigned so_far, char c) { return so_far + static_cast<unsigned char>(c); });
    put(block, checksum_field, fmt::format("{:06o}", sum) + '\0');
    return block;
}

void append(std::string& tar, const Block& block) {
    tar.append(block.begin(), block.end());
}

}  // namespace

std::string tar_of(const std::string& folder, const std::vector<ArchiveFile>& files,
                   WallTime made_at) {
    const auto seconds = static_cast<std::uint64_t>(
        std::chrono::floor<std::chrono::seconds>(made_at).time_since_epoch().count());
    std::string tar;
    for (const ArchiveFile& file : files) {
        append(tar, header(folder, file, seconds));
        tar += file.content;
        tar.append((block_size - file.content.size() % block_size) % block_size, '\0');
    }
    append(tar, Block{});
    append(tar, Block{});
    return tar;
}

Result<void> write_archive(const std::string& path, const std::string& tar) {
    constexpr std::chrono::seconds limit{60};
    const Fd plain(::memfd_create("tar", MFD_CLOEXEC));
    if (!plain.is_open()) {
        return fail_errno(errno, "making room for the archive");
    }
    if (auto written = write_all_to(plain.get(), tar, "the archive"); !written) {
        return written;
    }
    if (::lseek(plain.get(), 0, SEEK_SET) != 0) {
        return fail_errno(errno, "the archive");
    }
    const auto file = open_own_file(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (!file) {
        return Failure(file.error());
    }
    auto packed = filter_through({"gzip", "-9", "-n", "-c"}, plain.get(), file->get(), limit);
    if (packed && ::fsync(file->get()) != 0) {
        packed = fail_errno(errno, path);
    }
    if (!packed) {
        ::unlink(path.c_str());
    }
    return packed;
}

}  // namespace mirror::tools
