// SPDX-License-Identifier: BSD-3-Clause
// Metadata files by path: where they are, how one comes into being, how one is opened.
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "core/base/log.hpp"
#include "core/base/put_file.hpp"
#include "core/base/trusted_file.hpp"
#include "core/meta/meta_file.hpp"
#include "core/store/file_store.hpp"

namespace mirror {
namespace {

namespace files = std::filesystem;

Result<void> make_directory(const files::path& directory) {
    return make_folder(directory.string(), 0700).and_then([&] {
        return sync_folder(directory.parent_path().string());
    });
}

Error without_space(const Error& error, const std::string& path) {
    Error told = error;
    if (told.kind == ErrorKind::no_space) {
        told.remedy = fmt::format("free space in {}; the backing is not full",
                                  files::path(path).parent_path().parent_path().string());
    }
    return told;
}

/// The changed map is large, and the suspect map can stand in for it: it gets no space where that
/// would take half of what is left.
void reserve_changed_map(FileStore& file) {
    struct statvfs system {};
    if (::statvfs(file.path().c_str(), &system) != 0) {
        return;
    }
    const std::uint64_t taken = file.allocated_bytes();
    const std::uint64_t lacking = file.size() - std::min(taken, file.size());
    if (lacking != 0 && lacking <= system.f_bavail * std::uint64_t{system.f_frsize} / 2) {
        (void)file.allocate({0, file.size()});
    }
}

/// Before anybody else knows the file.
Result<void> reserve_space(FileStore& file, std::uint64_t volume_size) {
    for (const ByteRange& part : essential_parts(volume_size)) {
        if (auto filled = file.fill_holes(part); !filled) {
            return Failure(without_space(filled.error(), file.path()));
        }
    }
    reserve_changed_map(file);
    return file.flush();
}

/// While it is in use: zeroes could meet what somebody has just written.
Result<void> reserve_later(FileStore& file, std::uint64_t volume_size) {
    for (const ByteRange& part : essential_parts(volume_size)) {
        if (auto allocated = file.allocate(part); !allocated) {
            return Failure(without_space(allocated.error(), file.path()));
        }
    }
    return {};
}

/// A backing may be reached by a link, as disks are; metadata may not, and are nobody else's.
Result<std::unique_ptr<FileStore>> open_store(const std::string& path, FileStore::Lock lock) {
    return open_own_file(path, O_RDONLY).and_then([&](const Fd&) {
        return FileStore::open(path, lock);
    });
}

Result<std::unique_ptr<MetaFile>> make_file(const std::string& path, const Superblock& first) {
    if (auto made = create_backing_file(path, meta_file_size(first.size)); !made) {
        return Failure(without_space(made.error(), path));
    }
    auto store = FileStore::open(path, FileStore::Lock::exclusive);
    if (!store) {
        return Failure(store.error());
    }
    if (auto reserved = reserve_space(**store, first.size); !reserved) {
        return Failure(reserved.error());
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
        made = sync_folder(directory.string());
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
    return sync_folder(files::path(path).parent_path().string());
}

Result<Superblock> read_superblock(const std::string& path) {
    auto store = open_store(path, FileStore::Lock::none);
    if (!store) {
        return Failure(store.error());
    }
    // Not load(): a slot that the owner is writing looks torn, and is the owner's to mend.
    return MetaFile::look(**store, path);
}

Result<std::unique_ptr<MetaFile>> open_meta(const std::string& path, const WrapFile& wrap) {
    auto store = open_store(path, FileStore::Lock::exclusive);
    if (!store) {
        Error error = store.error();
        if (error.kind == ErrorKind::not_found) {
            error.remedy = "mirrorctl create makes it";
        }
        return Failure(std::move(error));
    }
    FileStore& file = **store;  // kept by whatever stands around it
    auto loaded = MetaFile::load(wrap ? wrap(std::move(*store)) : std::move(*store), path);
    if (!loaded) {
        return loaded;
    }
    const std::uint64_t size = (*loaded)->superblock().size;
    if (auto reserved = reserve_space(file, size); !reserved) {
        log(LogLevel::warning, "{}", reserved.error().text());
        (*loaded)->note_unreserved(reserved.error(),
                                   [&file, size] { return reserve_later(file, size); });
    }
    return loaded;
}

}  // namespace mirror
