// SPDX-License-Identifier: BSD-3-Clause
// Whether this is a build with AddressSanitizer or ThreadSanitizer. Their shadow memory, and what
// they do to tell what they have found, need exceptions from some rules of a process. A constant.
#pragma once

namespace mirror {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool is_sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool is_sanitized = true;
#else
inline constexpr bool is_sanitized = false;
#endif
#else
inline constexpr bool is_sanitized = false;
#endif

}  // namespace mirror
