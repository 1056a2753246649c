// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/patient_open.hpp"

#include <optional>
#include <utility>

#include "core/base/start_thread.hpp"

namespace mirror::daemon {

struct PatientOpener::Attempt {
    using Answer = Result<std::unique_ptr<FileStore>>;

    void run(const std::string& path) {
        Answer opened = FileStore::open(path, FileStore::Lock::exclusive);
        MutexLock lock(mutex);
        is_over = true;
        if (!is_given_up) {
            answer = std::move(opened);
        }
        changed.notify_all();
    }

    /// Nothing when it took too long.
    std::optional<Answer> wait(std::chrono::milliseconds patience) {
        const auto deadline = std::chrono::steady_clock::now() + patience;
        MutexLock lock(mutex);
        while (!is_over && std::chrono::steady_clock::now() < deadline) {
            (void)changed.wait_until(lock, deadline);
        }
        is_given_up = !is_over;
        return std::exchange(answer, std::nullopt);
    }

    bool over() {
        MutexLock lock(mutex);
        return is_over;
    }

    Mutex mutex;
    CondVar changed;
    std::optional<Answer> answer GUARDED_BY(mutex);
    bool is_over GUARDED_BY(mutex) = false;
    bool is_given_up GUARDED_BY(mutex) = false;
};

Result<std::unique_ptr<FileStore>> PatientOpener::open(const std::string& path,
                                                       std::chrono::milliseconds patience) {
    const Failure hangs(Error{ErrorKind::busy, fmt::format("{}: its disk hangs", path),
                              "repair or replace the disk"});
    auto attempt = std::make_shared<Attempt>();
    {
        MutexLock lock(mutex_);
        if (unanswered_ && !unanswered_->over()) {
            return hangs;
        }
        unanswered_ = attempt;
    }
    auto started = start_thread("open", [attempt, path] { attempt->run(path); });
    if (!started) {
        MutexLock lock(attempt->mutex);
        attempt->is_over = true;
        return Failure(started.error());
    }
    started->detach();
    auto answer = attempt->wait(patience);
    return answer ? std::move(*answer) : hangs;
}

}  // namespace mirror::daemon
