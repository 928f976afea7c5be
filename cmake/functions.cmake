# What the other files here use.

# Sources of tests and of what only tests use, by their names.
set(udpgate_test_source_regex
    "(_test|_fixture)\\.(cc|h)$|/(fake|scripted|tiny)_[a-z_]+\\.(cc|h)$|/(request_builder|packet_model|packet_generator|kernel_rights|log_collector|sample_sdp)\\.(cc|h)$")

# udpgate_sources(OUT PATTERN...): the files that match, relative to the top of
# the source tree, without those of tests.
function(udpgate_sources out)
  set(patterns ${ARGN})
  list(TRANSFORM patterns PREPEND "${PROJECT_SOURCE_DIR}/")
  file(GLOB_RECURSE files CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
       ${patterns})
  list(FILTER files EXCLUDE REGEX "${udpgate_test_source_regex}")
  set(${out} ${files} PARENT_SCOPE)
endfunction()

# The same, without a look into subfolders.
function(udpgate_sources_of_folder out)
  set(patterns ${ARGN})
  list(TRANSFORM patterns PREPEND "${PROJECT_SOURCE_DIR}/")
  file(GLOB files CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}" ${patterns})
  list(FILTER files EXCLUDE REGEX "${udpgate_test_source_regex}")
  set(${out} ${files} PARENT_SCOPE)
endfunction()

function(udpgate_set_options target)
  target_include_directories(${target} PUBLIC
      "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>")
  target_compile_features(${target} PUBLIC cxx_std_17)
  if(PROJECT_IS_TOP_LEVEL)
    target_compile_options(${target} PRIVATE -Wall -Wextra)
  endif()
endfunction()

# udpgate_precompile(TARGET OWNER): uses the precompiled headers of OWNER, which is
# compiled with the same options, or TARGET itself.
function(udpgate_precompile target owner)
  if(NOT UDPGATE_PRECOMPILED_HEADERS)
    return()
  endif()
  if(target STREQUAL owner)
    target_precompile_headers(${target} PRIVATE
        "${PROJECT_SOURCE_DIR}/cmake/precompiled.h")
  else()
    target_precompile_headers(${target} REUSE_FROM ${owner})
  endif()
endfunction()

# Whether a component is to be built: named, or needed by one that is.
function(udpgate_is_wanted out name)
  if("all" IN_LIST UDPGATE_COMPONENTS OR "${name}" IN_LIST udpgate_wanted)
    set(${out} ON PARENT_SCOPE)
  else()
    set(${out} OFF PARENT_SCOPE)
  endif()
endfunction()

# udpgate_component(NAME SOURCES file... [DEPENDS component...]
#                   [LIBRARIES target...] [PRIVATE_LIBRARIES target...])
# DEPENDS and LIBRARIES are part of the interface.
function(udpgate_component name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" ""
                        "SOURCES;DEPENDS;LIBRARIES;PRIVATE_LIBRARIES")
  string(REPLACE "-" "_" underscored "${name}")
  set(target "udpgate_${underscored}")
  # What a consumer may include: not internal/, and not the parts of one class
  # that several source files share.
  set(public_headers ${arg_SOURCES})
  list(FILTER public_headers INCLUDE REGEX "\\.h$")
  list(FILTER public_headers EXCLUDE REGEX "/internal/|_impl\\.h$")
  add_library(${target})
  target_sources(${target} PRIVATE ${arg_SOURCES}
      PUBLIC FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}"
             FILES ${public_headers})
  add_library(udpgate::${name} ALIAS ${target})
  udpgate_set_options(${target})
  list(TRANSFORM arg_DEPENDS PREPEND "udpgate::" OUTPUT_VARIABLE depends)
  target_link_libraries(${target} PUBLIC ${depends} ${arg_LIBRARIES}
                                  PRIVATE ${arg_PRIVATE_LIBRARIES})
  set_target_properties(${target} PROPERTIES
      EXPORT_NAME "${name}"
      VERSION "${PROJECT_VERSION}"
      SOVERSION "${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}"
      POSITION_INDEPENDENT_CODE ON
      DEFINE_SYMBOL ""
      CXX_VISIBILITY_PRESET hidden
      VISIBILITY_INLINES_HIDDEN ON)
  if(name STREQUAL "redis")
    # hiredis's pkg-config file sets _FILE_OFFSET_BITS.
    udpgate_precompile(${target} ${target})
  else()
    udpgate_precompile(${target} udpgate_core)
  endif()
  if(BUILD_SHARED_LIBS)
    set(map "${PROJECT_BINARY_DIR}/exports.map")
    configure_file("${PROJECT_SOURCE_DIR}/cmake/exports.map.in" "${map}" @ONLY)
    target_link_options(${target} PRIVATE "LINKER:--no-undefined"
                                          "LINKER:--version-script=${map}")
  endif()
  set_property(GLOBAL APPEND PROPERTY udpgate_components "${name}")
endfunction()
