// annotations: names for clang's thread-safety analysis; nothing under other compilers.
//
// The `analyze` preset builds with clang and turns a violated annotation into an error. The vocabulary is clang's
// (https://clang.llvm.org/docs/ThreadSafetyAnalysis.html) with the project's prefix.
#pragma once

#if defined(__clang__)
#define SLUICE_ANNOTATE(x) __attribute__((x))
#else
#define SLUICE_ANNOTATE(x)
#endif

#define SLUICE_CAPABILITY(name) SLUICE_ANNOTATE(capability(name))
#define SLUICE_SCOPED_CAPABILITY SLUICE_ANNOTATE(scoped_lockable)
#define SLUICE_GUARDED_BY(lock) SLUICE_ANNOTATE(guarded_by(lock))
#define SLUICE_PT_GUARDED_BY(lock) SLUICE_ANNOTATE(pt_guarded_by(lock))
#define SLUICE_ACQUIRED_BEFORE(...) SLUICE_ANNOTATE(acquired_before(__VA_ARGS__))
#define SLUICE_ACQUIRED_AFTER(...) SLUICE_ANNOTATE(acquired_after(__VA_ARGS__))
#define SLUICE_REQUIRES(...) SLUICE_ANNOTATE(requires_capability(__VA_ARGS__))
#define SLUICE_ACQUIRE(...) SLUICE_ANNOTATE(acquire_capability(__VA_ARGS__))
#define SLUICE_RELEASE(...) SLUICE_ANNOTATE(release_capability(__VA_ARGS__))
#define SLUICE_TRY_ACQUIRE(...) SLUICE_ANNOTATE(try_acquire_capability(__VA_ARGS__))
#define SLUICE_EXCLUDES(...) SLUICE_ANNOTATE(locks_excluded(__VA_ARGS__))
#define SLUICE_RETURN_CAPABILITY(x) SLUICE_ANNOTATE(lock_returned(x))
#define SLUICE_NO_THREAD_SAFETY_ANALYSIS SLUICE_ANNOTATE(no_thread_safety_analysis)
