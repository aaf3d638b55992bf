// sanitizers: which of them the program is built with, whichever way the compiler tells. RACE_ASAN and RACE_TSAN are defined
// or not. SLUICE_TSAN is set for the whole build: the harness itself is not instrumented (CMakeLists.txt), and still announces
// its fibers to ThreadSanitizer's runtime.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define RACE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RACE_ASAN 1
#endif
#endif

#if defined(__SANITIZE_THREAD__) || defined(SLUICE_TSAN)
#define RACE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACE_TSAN 1
#endif
#endif
