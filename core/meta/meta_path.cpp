// SPDX-License-Identifier: BSD-3-Clause
// Metadata files by path: where they are, how one comes into being, how one is opened.
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "core/base/put_file.hpp"
#include "core/meta/meta_file.hpp"
#include "core/store/file_store.hpp"

namespace mirror {
namespace {

namespace files = std::filesystem;

Result<void> sync_directory(const files::path& directory) {
    const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.is_open() || ::fsync(fd.get()) != 0) {
        return fail_errno(errno, directory.string());
    }
    return {};
}

Result<void> make_directory(const files::path& directory) {
    return make_folder(directory.string(), 0700).and_then([&] {
        return sync_directory(directory.parent_path());
    });
}

Result<std::unique_ptr<MetaFile>> make_file(const std::string& path, const Superblock& first) {
    if (auto made = create_backing_file(path, meta_file_size(first.size)); !made) {
        return Failure(made.error());
    }
    auto store = FileStore::open(path, FileStore::Lock::exclusive);
    if (!store) {
        return Failure(store.error());
    }
    auto formatted = MetaFile::format(std::move(*store), first);
    if (!formatted) {
        return Failure(formatted.error().within(path));
    }
    return formatted;
}

/// `block` is the old superblock with the new size.
Result<void> copy_to_larger(MetaFile& old, const std::string& path, const Superblock& block) {
    auto larger = make_file(path, block);
    if (!larger) {
        return Failure(larger.error());
    }
    for (const MapKind kind : {MapKind::intent, MapKind::suspect, MapKind::changed}) {
        const auto bits = old.read_map(kind);
        if (!bits) {
            return Failure(bits.error());
        }
        Bitmap wider(map_bits(kind, block.size));
        wider.merge(*bits);
        if (auto written = (*larger)->write_map(kind, wider); !written) {
            return written;
        }
    }
    return (*larger)->sync();
}

}  // namespace

std::string meta_path(const std::string& state_dir, const std::string& volume) {
    return state_dir + "/" + volume + "/meta";
}

Result<std::unique_ptr<MetaFile>> create_meta(const std::string& path, const Superblock& first) {
    const files::path directory = files::path(path).parent_path();
    if (auto made = make_directory(directory); !made) {
        return Failure(made.error());
    }
    // Under another name until it is whole, so that a crash leaves no file without a superblock.
    const std::string unfinished = fmt::format("{}.new.{}", path, ::getpid());
    ::unlink(unfinished.c_str());
    Result<void> made = make_file(unfinished, first).map([](const auto&) {});
    if (made && ::link(unfinished.c_str(), path.c_str()) != 0) {
        made = errno == EEXIST ? fail(ErrorKind::refused, "{}: exists already", path)
                               : fail_errno(errno, path);
    }
    ::unlink(unfinished.c_str());
    if (made) {
        made = sync_directory(directory);
    }
    if (!made) {
        return Failure(made.error());
    }
    return open_meta(path);
}

Result<void> grow_meta(const std::string& path, std::uint64_t volume_size) {
    auto old = open_meta(path);
    if (!old) {
        return Failure(old.error());
    }
    Superblock block = (*old)->superblock();
    if (block.size >= volume_size) {
        return block.size == volume_size
                   ? Result<void>{}
                   : fail(ErrorKind::refused, "{} has {} bytes already, and never shrinks",
                          block.volume_name, block.size);
    }
    block.size = volume_size;
    const std::string unfinished = path + ".larger";
    ::unlink(unfinished.c_str());  // of an attempt that was cut short
    Result<void> made = copy_to_larger(**old, unfinished, block);
    if (made && ::rename(unfinished.c_str(), path.c_str()) != 0) {
        made = fail_errno(errno, path);
    }
    if (!made) {
        ::unlink(unfinished.c_str());
        return made;
    }
    return sync_directory(files::path(path).parent_path());
}

Result<Superblock> read_superblock(const std::string& path) {
    auto store = FileStore::open(path, FileStore::Lock::none);
    if (!store) {
        return Failure(store.error());
    }
    return MetaFile::load(std::move(*store), path).map([](const std::unique_ptr<MetaFile>& meta) {
        return meta->superblock();
    });
}

Result<std::unique_ptr<MetaFile>> open_meta(const std::string& path, const WrapFile& wrap) {
    auto store = FileStore::open(path, FileStore::Lock::exclusive);
    if (!store) {
        Error error = store.error();
        if (error.kind == ErrorKind::not_found) {
            error.remedy = "mirrorctl create makes it";
        }
        return Failure(std::move(error));
    }
    return MetaFile::load(wrap ? wrap(std::move(*store)) : std::move(*store), path);
}

}  // namespace mirror
