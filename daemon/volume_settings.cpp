// SPDX-License-Identifier: BSD-3-Clause
// VolumeKeeper: an engine outlives the mirrord that started it, and a mirrord with other settings
// may be the next. What the engine can take while it serves it is told; for the rest, the step that
// is left is named.
#include "core/base/json.hpp"
#include "core/base/log.hpp"
#include "core/config/engine_settings.hpp"
#include "daemon/volume_keeper.hpp"

namespace mirror::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds between_tries{2000};
constexpr milliseconds answer_deadline{1500};

/// Null when there is none, or `object` is no object.
const Json& member(const Json& object, const char* name) {
    static const Json nothing;
    const auto found = object.is_object() ? object.find(name) : object.end();
    return object.is_object() && found != object.end() ? *found : nothing;
}

std::string text_or_unset(const Json& value) {
    return value.is_string() && !value.get_ref<const std::string&>().empty()
               ? value.get<std::string>()
               : "not set";
}

}  // namespace

std::optional<milliseconds> VolumeKeeper::tell_settings() {
    std::shared_ptr<EngineProcess> engine;
    std::uint64_t version = 0;
    {
        MutexLock lock(mutex_);
        engine = engine_;
        version = settings_version_;
        const auto left = std::chrono::ceil<milliseconds>(tell_due_ - context_.clock.steady_now());
        if (settings_told_) {
            return std::nullopt;
        }
        if (left.count() > 0) {
            return left;
        }
        tell_due_ = context_.clock.steady_now() + between_tries;
    }
    const Config& read = context_.as_read();
    const auto configured = read.volumes.find(name());
    if (is_configured() && configured != read.volumes.end()) {
        const auto told = client_.ask(
            {{"request", "settings"}, {"config", engine_config(read, configured->second)}},
            answer_deadline);
        // An engine of an earlier version takes nothing, and its status says nothing either.
        if (!told && told.error().kind != ErrorKind::invalid) {
            return between_tries;
        }
        if (told) {
            note_settings_taken(*told);
        }
    }
    {
        MutexLock lock(mutex_);
        // Another engine may have come meanwhile, and other settings.
        settings_told_ = engine == engine_ && version == settings_version_;
        tell_due_ = SteadyTime{};
        if (!settings_told_) {
            return milliseconds(0);
        }
    }
    client_.forget_status();
    note_pending(pending(facts()));
    return std::nullopt;
}

void VolumeKeeper::note_settings_taken(const Json& answer) {
    const Json& changed = member(answer, "changed");
    if (!changed.is_object() || changed.empty()) {
        return;
    }
    std::string text;
    for (const auto& [setting, values] : changed.items()) {
        if (values.is_array() && values.size() == 2) {
            text += fmt::format("{}{} is {} (it was {})", text.empty() ? "" : "; ", setting,
                                text_or_unset(values[1]), text_or_unset(values[0]));
        }
    }
    record(
        "settings-taken", Severity::info,
        fmt::format("the engine of {} on {} continues with new settings: {}", name(), node(), text),
        "mirrord uses a changed configuration");
}

std::vector<PendingSetting> VolumeKeeper::pending(const VolumeFacts& seen) const {
    return pending_settings(lives(), context_.as_read(), member(seen.engine, "settings"));
}

bool VolumeKeeper::says_its_settings(const VolumeFacts& seen) {
    return seen.place != Place::active || member(seen.engine, "settings").is_object();
}

std::string VolumeKeeper::settings_words(const VolumeFacts& seen) const {
    const bool is_active = seen.place == Place::active;
    if (!seen.engine.is_null() && !says_its_settings(seen)) {
        return fmt::format(
            "the engine of {0} on {1} is of an earlier version and does not say with "
            "which settings it was started; on {1}: mirrorctl restart-engine {0}",
            name(), node());
    }
    return pending_words(lives(), pending(seen), is_active);
}

std::string VolumeKeeper::settings_words() {
    return settings_words(facts());
}

void VolumeKeeper::note_pending(const std::vector<PendingSetting>& pending) {
    const bool is_active = place() == Place::active;
    const std::string words = pending_words(lives(), pending, is_active);
    {
        MutexLock lock(mutex_);
        if (std::exchange(pending_noted_, words) == words) {
            return;
        }
    }
    if (!words.empty()) {
        record("settings-pending", Severity::warning, words, {},
               is_configured() ? pending_step(lives(), pending, is_active)
                               : fmt::format("mirrorctl demote {}", name()));
    }
}

void VolumeKeeper::renew_session(const VolumeFacts& seen, const PeerView& view) {
    if (member(member(seen.engine, "peer"), "session_outdated") != true || !view.answer) {
        return;
    }
    const auto theirs = view.answer->settings.find(name());
    if (theirs != view.answer->settings.end() &&
        once_made(theirs->second) == once_made(shared_settings())) {
        (void)client_.ask({{"request", "renew-session"}}, std::chrono::seconds(1));
    }
}

}  // namespace mirror::daemon
