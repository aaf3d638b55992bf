# Stops the configuration, with one line, for a compiler that cannot compile Sluice. GCC 12 is the first with the C++23 that
# the headers use; clang needs libstdc++'s std::expected, which it accepts from version 19 on.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(sluice_oldest_compiler 12)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  set(sluice_oldest_compiler 19)
else()
  set(sluice_oldest_compiler)
endif()
if(NOT sluice_oldest_compiler OR CMAKE_CXX_COMPILER_VERSION VERSION_LESS sluice_oldest_compiler)
  # The leading blank keeps CMake from breaking the line.
  message(FATAL_ERROR " Sluice needs GCC 12 or clang 19 (or newer); ${CMAKE_CXX_COMPILER} is ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}. Set CXX=g++-12 or CXX=clang++-19 and configure an empty build directory.")
endif()
