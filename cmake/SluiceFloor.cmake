# sluice_floor(NAME [BELOW floor] [SOURCES ...] [PRIVATE_LIBS ...])
# One target per floor: sluice_<NAME>, alias sluice::<NAME>. The public headers of a floor are visible only to targets that
# link it, because each floor's include directory is a tree of its own in the build (see below); an include that climbs
# does not compile.
function(sluice_floor NAME)
  cmake_parse_arguments(ARG "" "BELOW" "SOURCES;PRIVATE_LIBS;PUBLIC_LIBS" ${ARGN})
  set(target sluice_${NAME})
  # include/ holds every floor, so naming it would show every header to every floor. Each floor gets a directory with a
  # link to its own folder only.
  set(view ${PROJECT_BINARY_DIR}/floors/${NAME}/sluice)
  file(MAKE_DIRECTORY ${view})
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/include/sluice/${NAME} ${view}/${NAME} SYMBOLIC)
  if(ARG_SOURCES)
    add_library(${target} STATIC ${ARG_SOURCES})
    set(scope PUBLIC)
    target_link_libraries(${target} PRIVATE sluice_flags ${ARG_PRIVATE_LIBS})
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  add_library(sluice::${NAME} ALIAS ${target})
  target_include_directories(${target} ${scope} ${PROJECT_BINARY_DIR}/floors/${NAME})
  target_compile_features(${target} ${scope} cxx_std_23)
  target_link_libraries(${target} ${scope} Threads::Threads ${ARG_PUBLIC_LIBS})
  if(ARG_BELOW)
    target_link_libraries(${target} ${scope} sluice_${ARG_BELOW})
  endif()
endfunction()
