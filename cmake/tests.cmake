# Unit tests and end-to-end tests: one program for each *_test.cc. Fuzzing,
# simulations, benchmarks and what needs npm packages are Bazel's alone.
find_package(GTest REQUIRED)

# What only tests use.
file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
     "${PROJECT_SOURCE_DIR}/udpgate/*.cc"
     "${PROJECT_SOURCE_DIR}/testing/internal/support/*.cc")
list(FILTER sources INCLUDE REGEX
     "${udpgate_test_source_regex}|^testing/internal/support/")
list(FILTER sources EXCLUDE REGEX "_test\\.cc$|/(allocation|malloc)_count\\.cc$")
add_library(udpgate_test_support STATIC EXCLUDE_FROM_ALL ${sources})
udpgate_set_options(udpgate_test_support)
udpgate_precompile(udpgate_test_support udpgate_test_support)
target_link_libraries(udpgate_test_support PUBLIC
    udpgate_program udpgate::testing GTest::gmock GTest::gtest
    PkgConfig::HIREDIS PkgConfig::CARES PkgConfig::LIBBPF OpenSSL::SSL
    OpenSSL::Crypto Boost::boost nlohmann_json::nlohmann_json
    prometheus-cpp::core)
target_compile_definitions(udpgate_test_support PUBLIC BOOST_DISABLE_ASSERTS)

# Compiled as the tests are, for the headers that they share.
file(WRITE "${PROJECT_BINARY_DIR}/test_headers.cc" "")
add_library(udpgate_test_headers OBJECT EXCLUDE_FROM_ALL
            "${PROJECT_BINARY_DIR}/test_headers.cc")
udpgate_set_options(udpgate_test_headers)
target_compile_options(udpgate_test_headers PRIVATE -O0)
target_link_libraries(udpgate_test_headers PRIVATE udpgate_test_support
                                                   GTest::gmock_main)
if(UDPGATE_PRECOMPILED_HEADERS)
  target_precompile_headers(udpgate_test_headers PRIVATE
      "${PROJECT_SOURCE_DIR}/cmake/precompiled_tests.h")
endif()

# udpgate_test(SOURCE [more sources...])
function(udpgate_test source)
  string(REGEX REPLACE "\\.cc$" "" name "${source}")
  string(REPLACE "/" "." name "${name}")
  add_executable(${name} ${source} ${ARGN})
  udpgate_set_options(${name})
  # GoogleTest's macros take the optimiser much time, and gain nothing.
  target_compile_options(${name} PRIVATE -O0)
  target_link_libraries(${name} PRIVATE udpgate_test_support GTest::gmock_main
                                        ${CMAKE_DL_LIBS})
  udpgate_precompile(${name} udpgate_test_headers)
  add_test(NAME ${name} COMMAND ${name}
           WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()

file(GLOB_RECURSE tests CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
     "${PROJECT_SOURCE_DIR}/udpgate/*_test.cc" "${PROJECT_SOURCE_DIR}/cli/*_test.cc")
foreach(test IN LISTS tests)
  file(STRINGS "${test}" counts REGEX "(allocation|malloc)_count\\.h")
  if(counts)
    string(REGEX REPLACE ".*\"(.*)\\.h\".*" "\\1.cc" counts "${counts}")
    udpgate_test("${test}" "${counts}")
  else()
    udpgate_test("${test}")
  endif()
endforeach()
file(GLOB tests CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
     "${PROJECT_SOURCE_DIR}/testing/*_test.cc"
     "${PROJECT_SOURCE_DIR}/testing/internal/support/*_test.cc")
foreach(test IN LISTS tests)
  udpgate_test("${test}")
endforeach()

# End to end, with the program.
file(GLOB tests CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
     "${PROJECT_SOURCE_DIR}/testing/internal/e2e/*_test.cc")
file(GLOB shared CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
     "${PROJECT_SOURCE_DIR}/testing/internal/e2e/*.cc")
# Not the tests themselves, nor other programs.
list(FILTER shared EXCLUDE REGEX "_(test|load)\\.cc$")
list(FILTER shared EXCLUDE REGEX "/nethernet\\.cc$")
add_library(udpgate_end_to_end OBJECT EXCLUDE_FROM_ALL ${shared})
# Players and backends of NetherNet have ICE agents of libnice.
pkg_check_modules(NICE IMPORTED_TARGET nice)
if(NICE_FOUND)
  file(GLOB agents CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
       "${PROJECT_SOURCE_DIR}/testing/internal/ice/*.cc")
  list(FILTER agents EXCLUDE REGEX "_test\\.cc$")
  add_library(udpgate_ice OBJECT EXCLUDE_FROM_ALL
              testing/internal/e2e/nethernet.cc ${agents})
  target_link_libraries(udpgate_ice PUBLIC PkgConfig::NICE)
  # glib's options are others than those of the precompiled headers.
  set_property(TARGET udpgate_ice PROPERTY DISABLE_PRECOMPILE_HEADERS ON)
else()
  list(FILTER tests EXCLUDE REGEX "/nethernet_")
  message(STATUS "The tests of NetherNet are left out: there is no libnice")
endif()
foreach(library udpgate_end_to_end udpgate_ice)
  if(TARGET ${library})
    udpgate_set_options(${library})
    target_compile_options(${library} PRIVATE -O0)
    target_link_libraries(${library} PUBLIC udpgate_test_support)
    udpgate_precompile(${library} udpgate_test_headers)
    # Some of them have functions of the same name.
    set_property(TARGET ${library} PROPERTY UNITY_BUILD OFF)
  endif()
endforeach()
foreach(test IN LISTS tests)
  udpgate_test("${test}")
  string(REGEX REPLACE "\\.cc$" "" name "${test}")
  string(REPLACE "/" "." name "${name}")
  target_link_libraries(${name} PRIVATE udpgate_end_to_end)
  if(test MATCHES "/nethernet_")
    target_link_libraries(${name} PRIVATE udpgate_ice)
    set_property(TARGET ${name} PROPERTY DISABLE_PRECOMPILE_HEADERS ON)
  endif()
  add_dependencies(${name} udp-gate)
  set_tests_properties(${name} PROPERTIES
      LABELS end_to_end
      ENVIRONMENT "UDPGATE_BINARY=$<TARGET_FILE:udp-gate>;UDPGATE_REDIS_PAGE=docs/redis.md")
  # They take most descriptors, or are timed.
  if(test MATCHES "/(crash|ecmp|vrrp)_test")
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
endforeach()
