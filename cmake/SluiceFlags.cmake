# Compiler flags of every target of ours. Warnings are errors; third-party headers are SYSTEM and exempt.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(sluice_flags INTERFACE)
target_compile_features(sluice_flags INTERFACE cxx_std_23)
target_compile_options(sluice_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor -Wold-style-cast
  -Woverloaded-virtual -Wcast-align -Wunused -Wdouble-promotion -Wformat=2
  -Wimplicit-fallthrough -Werror -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(sluice_flags INTERFACE -Wlogical-op -Wduplicated-cond -Wduplicated-branches)
else()
  # -Wthread-safety reads the annotations of base/annotations.h: a guarded member touched without its lock does not build.
  target_compile_options(sluice_flags INTERFACE -Wthread-safety -Wthread-safety-beta)
endif()

if(SLUICE_SANITIZE)
  set(sanitize_flags -fsanitize=${SLUICE_SANITIZE} -fno-sanitize-recover=all)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC 12 reports false maybe-uninitialized findings in instrumented standard headers.
    add_compile_options(-Wno-maybe-uninitialized)
  endif()
  # Directory-wide, not on the interface: gtest mains and peers must be instrumented like our own code.
  add_compile_options(${sanitize_flags})
  add_link_options(${sanitize_flags})
  if(SLUICE_SANITIZE MATCHES "thread")
    add_compile_definitions(SLUICE_TSAN=1)
  endif()
endif()
