// SPDX-License-Identifier: BSD-3-Clause
#include "core/engine/differences.hpp"

#include <algorithm>
#include <utility>

namespace mirror {
namespace {

constexpr std::uint64_t blocks_per_region = region_size / block_size;

BitRange blocks_of_region(std::uint64_t region, std::uint64_t volume_blocks) {
    return {region * blocks_per_region, std::min((region + 1) * blocks_per_region, volume_blocks)};
}

/// The chunks that are set in `dirty`, which is emptied.
std::vector<std::uint64_t> take(Bitmap& dirty) {
    std::vector<std::uint64_t> chunks;
    chunks.reserve(dirty.count());
    std::uint64_t from = 0;
    while (const auto run = dirty.next_run(from, dirty.size())) {
        for (std::uint64_t chunk = run->first; chunk < run->last; ++chunk) {
            chunks.push_back(chunk);
        }
        from = run->last;
    }
    dirty.clear_all();
    return chunks;
}

void mark(Bitmap& dirty, std::span<const std::uint64_t> chunks) {
    for (const std::uint64_t chunk : chunks) {
        dirty.set({chunk, chunk + 1});
    }
}

/// A copy of the named chunks alone, so that they can be written without holding the mutex.
Bitmap copy_chunks(const Bitmap& bits, std::span<const std::uint64_t> chunks) {
    Bitmap copy(bits.size());
    for (const std::uint64_t index : chunks) {
        if (const Bitmap::Chunk* chunk = bits.chunk(index)) {
            copy.set_chunk(index, *chunk);
        }
    }
    return copy;
}

Result<void> move_intents(MetaFile& meta, const Bitmap& intent, const Bitmap& suspect) {
    // The suspects must be on disk before the intents that they come from are wiped.
    return meta.write_map(MapKind::suspect, suspect)
        .and_then([&] { return meta.sync(); })
        .and_then([&] { return meta.write_map(MapKind::intent, Bitmap(intent.size())); })
        .and_then([&] { return meta.sync(); });
}

BitRange regions_of_blocks(BitRange blocks) {
    return {blocks.first / blocks_per_region, divide_up(blocks.last, blocks_per_region)};
}

/// Copied and written at a time: a volume of which all differs needs little memory beside its maps.
constexpr std::size_t chunks_at_a_time = 4096;

}  // namespace

Result<std::unique_ptr<Differences>> Differences::load(MetaFile& meta) {
    auto intent = meta.read_map(MapKind::intent);
    auto suspect = meta.read_map(MapKind::suspect);
    auto changed = meta.read_map(MapKind::changed);
    for (const auto* map : {&intent, &suspect, &changed}) {
        if (!map->has_value()) {
            return Failure(map->error());
        }
    }
    Result<void> moved;
    if (!intent->empty()) {
        suspect->merge(*intent);
        moved = move_intents(meta, *intent, *suspect);
        if (!moved && moved.error().kind != ErrorKind::no_space) {
            return Failure(moved.error());
        }
    }
    std::unique_ptr<Differences> loaded(
        new Differences(meta, std::move(*suspect), std::move(*changed)));
    if (!moved) {
        loaded->keep_intents(*intent);
    }
    return loaded;
}

/// A former run's intents stand on disk for the suspects that there is no space for.
void Differences::keep_intents(const Bitmap& intents) {
    intents_.keep(intents);
    MutexLock lock(mutex_);
    suspect_dirty_.set_all();
}

Differences::Differences(MetaFile& meta, Bitmap suspect, Bitmap changed)
    : meta_(meta),
      volume_size_(meta.superblock().size),
      intents_(
          volume_size_,
          [&meta](const Bitmap& bits, const std::vector<std::uint64_t>& chunks) -> Result<void> {
              if (auto written = meta.write_chunks(MapKind::intent, bits, chunks); !written) {
                  return written;
              }
              return meta.sync();
          },
          [this]() -> Result<void> { return leave_quiet_ ? leave_quiet_() : Result<void>{}; }),
      suspect_(std::move(suspect)),
      changed_(std::move(changed)),
      suspect_dirty_(suspect_.chunk_count()),
      changed_dirty_(changed_.chunk_count()),
      stand_ins_(suspect_.size()) {
    empty_ = suspect_.empty() && changed_.empty();
}

void Differences::touch_suspect(BitRange bits) {
    suspect_dirty_.set(bits_touched({bits.first, bits.last - bits.first}, Bitmap::chunk_bits));
    empty_ = suspect_.empty() && changed_.empty();
}

void Differences::touch_changed(BitRange bits) {
    changed_dirty_.set(bits_touched({bits.first, bits.last - bits.first}, Bitmap::chunk_bits));
    empty_ = suspect_.empty() && changed_.empty();
}

void Differences::mark_changed(ByteRange range) {
    MutexLock lock(mutex_);
    const BitRange bits = bits_touched(range, block_size);
    if (changed_.set(bits) != 0) {
        touch_changed(bits);
    }
}

void Differences::suspect_intents() {
    const Bitmap regions = intents_.snapshot();
    MutexLock lock(mutex_);
    std::uint64_t from = 0;
    while (const auto run = regions.next_run(from, regions.size())) {
        if (suspect_.set(*run) != 0) {
            touch_suspect(*run);
        }
        from = run->last;
    }
}

Result<void> Differences::suspect(const Bitmap& regions) {
    {
        MutexLock lock(mutex_);
        suspect_.merge(regions);
        suspect_dirty_.set_all();
        empty_ = suspect_.empty() && changed_.empty();
    }
    return write_maps();
}

Result<void> Differences::suspect_all() {
    Bitmap all(map_bits(MapKind::suspect, volume_size_));
    all.set_all();
    return suspect(all);
}

void Differences::clear_covered(ByteRange range, const std::function<bool()>& session_lost) {
    if (empty_.load()) {
        return;
    }
    MutexLock lock(mutex_);
    // A session is lost before its intents become suspect, which takes this mutex: what is cleared
    // here before that is set again there.
    if (session_lost()) {
        return;
    }
    const BitRange blocks = bits_covered(range, block_size, volume_size_);
    if (!blocks.empty() && changed_.clear(blocks) != 0) {
        touch_changed(blocks);
    }
    const BitRange regions = bits_covered(range, region_size, volume_size_);
    if (!regions.empty() && suspect_.clear(regions) != 0) {
        touch_suspect(regions);
    }
}

Result<std::uint64_t> Differences::prepare(std::uint64_t from, std::uint64_t count) {
    std::vector<BitRange> runs;
    {
        MutexLock lock(mutex_);
        for (std::uint64_t listed = 0; listed < count; ++listed) {
            const auto region = first_with_work(from);
            if (!region) {
                break;
            }
            from = *region + 1;
            if (!runs.empty() && runs.back().last == *region) {
                runs.back().last = from;
            } else {
                runs.push_back({*region, from});
            }
        }
    }
    if (auto prepared = intents_.prepare(runs); !prepared) {
        return Failure(prepared.error());
    }
    return from;
}

std::optional<std::uint64_t> Differences::next_region(std::uint64_t from) const {
    MutexLock lock(mutex_);
    return first_with_work(from);
}

std::optional<std::uint64_t> Differences::first_with_work(std::uint64_t from) const {
    const auto suspect = suspect_.next_run(from, 1);
    const std::uint64_t end = suspect ? suspect->first : suspect_.size();
    // Not beyond that: with few bits far away each look would take time as the volume is large.
    const auto changed = changed_.next_run_in({from * blocks_per_region, end * blocks_per_region});
    if (changed) {
        return changed->first / blocks_per_region;
    }
    return suspect ? std::optional(suspect->first) : std::nullopt;
}

Differences::Work Differences::work_in(std::uint64_t region) const {
    MutexLock lock(mutex_);
    Work work{region, bytes_of({region, region + 1}, region_size, volume_size_),
              suspect_.test(region)};
    const BitRange blocks = blocks_of_region(region, changed_.size());
    std::uint64_t from = blocks.first;
    while (const auto run = changed_.next_run_in({from, blocks.last})) {
        work.changed.push_back(*run);
        from = run->last;
    }
    return work;
}

void Differences::found(const Work& work, const std::vector<BitRange>& differing,
                        const std::function<bool()>& session_lost) {
    MutexLock lock(mutex_);
    if (session_lost()) {
        return;
    }
    for (const BitRange& blocks : differing) {
        if (changed_.set(blocks) != 0) {
            touch_changed(blocks);
        }
    }
    if (suspect_.clear({work.region, work.region + 1}) != 0) {
        touch_suspect({work.region, work.region + 1});
    }
}

std::uint64_t Differences::behind_bytes() const {
    MutexLock lock(mutex_);
    return std::min(suspect_.count() * region_size + changed_.count() * block_size, volume_size_);
}

std::uint64_t Differences::changed_bytes() const {
    MutexLock lock(mutex_);
    return std::min(changed_.count() * block_size, volume_size_);
}

std::uint64_t Differences::suspect_bytes() const {
    MutexLock lock(mutex_);
    return std::min(suspect_.count() * region_size, volume_size_);
}

Differences::Lacking Differences::changed_ranges(std::size_t most) const {
    Lacking lacking;
    MutexLock lock(mutex_);
    std::uint64_t from = 0;
    while (const auto run = changed_.next_run(from, changed_.size())) {
        if (lacking.ranges.size() < most) {
            lacking.ranges.push_back(bytes_of(*run, block_size, volume_size_));
        } else {
            ++lacking.unlisted;
        }
        from = run->last;
    }
    return lacking;
}

Bitmap Differences::regions() const {
    Bitmap regions = intents_.snapshot();
    MutexLock lock(mutex_);
    regions.merge(suspect_);
    std::uint64_t from = 0;
    while (const auto run = changed_.next_run(from, changed_.size())) {
        regions.set(regions_of_blocks(*run));
        from = run->last;
    }
    return regions;
}

bool Differences::overlaps(ByteRange range) const {
    MutexLock lock(mutex_);
    return suspect_.any(bits_touched(range, region_size)) ||
           changed_.any(bits_touched(range, block_size));
}

bool Differences::empty() const {
    return empty_.load();
}

bool Differences::settled() const {
    if (intents_.count() != 0) {
        return false;
    }
    MutexLock lock(mutex_);
    return suspect_dirty_.empty() && changed_dirty_.empty();
}

Result<void> Differences::checkpoint(IntentMap::Clear what,
                                     const std::function<Result<void>()>& flush) {
    MutexLock one(checkpoint_mutex_);
    return intents_.checkpoint(what, [&]() -> Result<void> {
        if (auto flushed = flush(); !flushed) {
            return flushed;
        }
        return write_maps();
    });
}

Result<void> Differences::write_maps() {
    MutexLock one(writing_mutex_);
    std::vector<std::uint64_t> suspect;
    std::vector<std::uint64_t> changed;
    {
        MutexLock lock(mutex_);
        suspect = take(suspect_dirty_);
        changed = take(changed_dirty_);
    }
    if (suspect.empty() && changed.empty()) {
        return {};
    }
    // Suspects first: a region that is compared meanwhile turns from one into the other.
    std::span<const std::uint64_t> unwritten = suspect;
    Result<void> done = write_chunks(MapKind::suspect, unwritten);
    unwritten = changed;
    if (done) {
        done = write_chunks(MapKind::changed, unwritten);
        if (!done && done.error().kind == ErrorKind::no_space) {
            done = write_stand_ins(unwritten);
        }
    }
    if (done) {
        done = meta_.sync();
    }
    MutexLock lock(mutex_);
    mark(changed_dirty_, done ? unwritten : changed);
    if (done) {
        drop_stand_ins(unwritten);
    } else {
        mark(suspect_dirty_, suspect);
    }
    return done;
}

Bitmap Differences::regions_of(std::span<const std::uint64_t> changed_chunks) const {
    Bitmap regions(suspect_.size());
    for (const std::uint64_t chunk : changed_chunks) {
        const std::uint64_t end = std::min((chunk + 1) * Bitmap::chunk_bits, changed_.size());
        std::uint64_t from = chunk * Bitmap::chunk_bits;
        while (const auto run = changed_.next_run_in({from, end})) {
            regions.set(regions_of_blocks(*run));
            from = run->last;
        }
    }
    return regions;
}

Result<void> Differences::write_stand_ins(std::span<const std::uint64_t> changed_chunks) {
    std::vector<std::uint64_t> chunks;
    {
        MutexLock lock(mutex_);
        const Bitmap regions = regions_of(changed_chunks);
        stand_ins_.merge(regions);
        for (std::uint64_t chunk = 0; chunk < regions.chunk_count(); ++chunk) {
            if (regions.chunk(chunk) != nullptr) {
                chunks.push_back(chunk);
            }
        }
    }
    std::span<const std::uint64_t> left = chunks;
    return write_chunks(MapKind::suspect, left);
}

/// What they stood for is on disk, and only now: were both written with one sync, a loss of power
/// could keep their end without its reason. The next checkpoint writes that.
void Differences::drop_stand_ins(std::span<const std::uint64_t> unwritten) {
    if (stand_ins_.empty()) {
        return;
    }
    Bitmap needed = regions_of(unwritten);
    std::uint64_t from = 0;
    while (const auto run = stand_ins_.next_run(from, stand_ins_.size())) {
        if (!needed.all(*run)) {
            touch_suspect(*run);
        }
        from = run->last;
    }
    stand_ins_ = std::move(needed);
}

Result<void> Differences::write_chunks(MapKind kind, std::span<const std::uint64_t>& chunks) {
    while (!chunks.empty()) {
        const auto some = chunks.first(std::min(chunks.size(), chunks_at_a_time));
        Bitmap copy(0);
        {
            MutexLock lock(mutex_);
            copy = copy_chunks(kind == MapKind::suspect ? suspect_ : changed_, some);
            if (kind == MapKind::suspect) {
                copy.merge(copy_chunks(stand_ins_, some));
            }
        }
        if (auto written = meta_.write_chunks(kind, copy, {some.begin(), some.end()}); !written) {
            return written;
        }
        chunks = chunks.subspan(some.size());
    }
    return {};
}

}  // namespace mirror
