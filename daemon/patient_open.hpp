// SPDX-License-Identifier: BSD-3-Clause
// Opens a backing for mirrord, which must not hang with one disk of many: a read that a disk owes
// may keep its file from being opened, too. So it is opened on a thread of its own, which is left
// to itself when it takes too long; what it opens after that is closed again at once. One attempt
// at a time: while one is unanswered the next ones fail without waiting. Any thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "core/base/sync.hpp"
#include "core/store/file_store.hpp"

namespace mirror::daemon {

class PatientOpener {
  public:
    /// Locked exclusively; `busy` where the disk does not answer in time.
    [[nodiscard]] Result<std::unique_ptr<FileStore>> open(const std::string& path,
                                                          std::chrono::milliseconds patience)
        EXCLUDES(mutex_);

  private:
    struct Attempt;

    Mutex mutex_;
    std::shared_ptr<Attempt> unanswered_ GUARDED_BY(mutex_);
};

}  // namespace mirror::daemon
