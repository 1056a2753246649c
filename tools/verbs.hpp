// SPDX-License-Identifier: BSD-3-Clause
// One function a verb: asks, prints, returns the exit code. Main thread.
#pragma once

#include "tools/session.hpp"

namespace mirror::tools {

/// Runs the verb of the options.
[[nodiscard]] int run_verb(Session& session);

// changes.cpp: verbs that change something.
[[nodiscard]] int create(Session& session);
[[nodiscard]] int promote(Session& session);
[[nodiscard]] int demote(Session& session);
[[nodiscard]] int switch_roles(Session& session);
[[nodiscard]] int connect(Session& session);
[[nodiscard]] int disconnect(Session& session);
[[nodiscard]] int resync(Session& session);
[[nodiscard]] int resize(Session& session);
[[nodiscard]] int attach(Session& session);
[[nodiscard]] int detach(Session& session);
[[nodiscard]] int restart_engine(Session& session);

// verify.cpp
[[nodiscard]] int verify(Session& session);

// resolve.cpp and undo.cpp: the way out of a split brain, and what it left.
[[nodiscard]] int resolve(Session& session);
[[nodiscard]] int undo(Session& session);

// watching.cpp: verbs that look, once or until something happens.
[[nodiscard]] int status(Session& session);
[[nodiscard]] int wait(Session& session);
[[nodiscard]] int events(Session& session);
/// The end of `resync --wait`: until the volume is in sync, or can't get there by itself.
[[nodiscard]] int wait_for_resync(Session& session);

// test_hooks.cpp
[[nodiscard]] int test_hooks(Session& session);

// reload.cpp
[[nodiscard]] int reload(Session& session);

// keygen.cpp
[[nodiscard]] int keygen(Session& session);

// check.cpp and monitor.cpp: for people, and for programs.
[[nodiscard]] int check(Session& session);
[[nodiscard]] int check_for_monitor(Session& session);
[[nodiscard]] int version(Session& session);

}  // namespace mirror::tools
