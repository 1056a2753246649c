// SPDX-License-Identifier: BSD-3-Clause
#include "core/lineage/generation.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/lineage/words.hpp"

namespace mirror {
namespace {

constexpr detail::Words<GenerationReason, 6> reason_words{{
    {GenerationReason::created, "created"},
    {GenerationReason::peer_lost, "peer-lost"},
    {GenerationReason::forced_promotion, "forced-promotion"},
    {GenerationReason::fenced_promotion, "fenced-promotion"},
    {GenerationReason::local_disk_failed, "local-disk-failed"},
    {GenerationReason::resolved, "resolved"},
}};

constexpr detail::Words<Relation, 5> relation_words{{
    {Relation::equal, "equal"},
    {Relation::ahead, "ahead"},
    {Relation::behind, "behind"},
    {Relation::diverged, "diverged"},
    {Relation::unrelated, "unrelated"},
}};

}  // namespace

std::string_view to_string(GenerationReason reason) noexcept {
    return detail::word_of(reason_words, reason);
}

Result<GenerationReason> parse_generation_reason(std::string_view word) {
    return detail::parse_word(reason_words, word, "reason for a generation");
}

std::string_view to_string(Relation relation) noexcept {
    return detail::word_of(relation_words, relation);
}

Lineage::Lineage(std::vector<Generation> newest_first) : entries_(std::move(newest_first)) {
    if (entries_.size() > capacity) {
        entries_.resize(capacity);
    }
}

GenerationId Lineage::current() const noexcept {
    return entries_.empty() ? GenerationId{} : entries_.front().id;
}

bool Lineage::contains(const GenerationId& id) const noexcept {
    return std::any_of(entries_.begin(), entries_.end(),
                       [&](const Generation& entry) { return entry.id == id; });
}

void Lineage::begin(GenerationId id, WallTime now, std::string node, GenerationReason reason,
                    std::uint64_t from_step) {
    entries_.insert(entries_.begin(),
                    Generation{id, current(), now, std::move(node), reason, from_step});
    if (entries_.size() > capacity) {
        entries_.resize(capacity);
    }
}

void Lineage::shorten_run(std::size_t most) {
    const std::uint64_t step = entries_.empty() ? 0 : entries_.front().from_step;
    const auto end = std::find_if(entries_.begin(), entries_.end(), [&](const Generation& entry) {
        return step == 0 || entry.from_step != step || entry.node != entries_.front().node ||
               entry.reason != GenerationReason::peer_lost;
    });
    if (end - entries_.begin() <= static_cast<std::ptrdiff_t>(most)) {
        return;
    }
    const auto dropped = end - 2;  // the first one of the run stays: the others descend from it
    std::prev(dropped)->parent = dropped->parent;
    entries_.erase(dropped);
}

Relation relate(const Lineage& ours, const Lineage& theirs) noexcept {
    if (ours.empty() || theirs.empty()) {
        return Relation::unrelated;
    }
    if (ours.current() == theirs.current()) {
        return Relation::equal;
    }
    const bool ahead = ours.contains(theirs.current());
    const bool behind = theirs.contains(ours.current());
    if (ahead != behind) {
        return ahead ? Relation::ahead : Relation::behind;
    }
    // Each holding the other's current can't come about by begin(); a damaged or foreign history
    // must not make either of them the source.
    const auto& entries = ours.entries();
    const bool common = std::any_of(entries.begin(), entries.end(), [&](const Generation& entry) {
        return theirs.contains(entry.id);
    });
    return common ? Relation::diverged : Relation::unrelated;
}

}  // namespace mirror
