# The components: each is the library of a folder, and what it links. Abseil is
# all that `core` needs.

# What each needs beside itself.
set(udpgate_all_components
    core dns redis redis-tls forward http admin nethernet fastpath takeover store
    testing)
set(udpgate_needs_dns core)
set(udpgate_needs_redis dns)
set(udpgate_needs_redis-tls redis)
set(udpgate_needs_forward core)
set(udpgate_needs_http core)
set(udpgate_needs_admin http)
set(udpgate_needs_nethernet http)
set(udpgate_needs_fastpath core)
set(udpgate_needs_takeover core)
set(udpgate_needs_store core)
set(udpgate_needs_testing core)

# For the .pc files: the packages that their headers use, and those that only
# the libraries use.
set(udpgate_pc_core
    absl_any_invocable absl_core_headers absl_flat_hash_map absl_flat_hash_set
    absl_function_ref absl_hash absl_optional absl_span absl_status
    absl_statusor absl_strings absl_time)
set(udpgate_pc_testing gmock)
set(udpgate_pc_private_dns libcares)
set(udpgate_pc_private_redis hiredis)
set(udpgate_pc_private_redis-tls libssl)
set(udpgate_pc_private_forward libcrypto)
set(udpgate_pc_private_http libssl)
set(udpgate_pc_private_admin prometheus-cpp-core)
set(udpgate_pc_private_nethernet libcrypto)
set(udpgate_pc_private_fastpath libbpf)

set(udpgate_wanted ${UDPGATE_COMPONENTS})
if("all" IN_LIST udpgate_wanted)
  set(udpgate_wanted ${udpgate_all_components})
endif()
foreach(round RANGE 3)
  foreach(name IN LISTS udpgate_wanted)
    if(NOT name IN_LIST udpgate_all_components)
      list(JOIN udpgate_all_components ", " allowed)
      message(FATAL_ERROR "UDPGATE_COMPONENTS: there is no component "
                          "\"${name}\"; allowed: all, ${allowed}")
    endif()
    list(APPEND udpgate_wanted ${udpgate_needs_${name}})
  endforeach()
  list(REMOVE_DUPLICATES udpgate_wanted)
endforeach()
if((UDPGATE_PROGRAM OR UDPGATE_TESTS) AND NOT "all" IN_LIST UDPGATE_COMPONENTS)
  message(FATAL_ERROR "UDPGATE_PROGRAM and UDPGATE_TESTS need "
                      "UDPGATE_COMPONENTS=all")
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(absl REQUIRED)

# core
udpgate_sources_of_folder(sources "udpgate/*.cc" "udpgate/*.h"
                                  "udpgate/base/*.h")
udpgate_sources(internal_sources
    "udpgate/internal/*.cc" "udpgate/internal/*.h"
    "udpgate/forward/internal/*.cc" "udpgate/forward/internal/*.h")
# Needs no c-ares, unlike the rest of its folder.
udpgate_component(core
    SOURCES ${sources} ${internal_sources} udpgate/forward/envelope_keys.h
            udpgate/dns/host_port.cc udpgate/dns/host_port.h
    LIBRARIES
        absl::any_invocable absl::core_headers absl::flat_hash_map
        absl::flat_hash_set absl::function_ref absl::hash absl::optional
        absl::span absl::status absl::statusor absl::strings absl::time
        Threads::Threads)

if("dns" IN_LIST udpgate_wanted)
  pkg_check_modules(CARES REQUIRED IMPORTED_TARGET libcares)
  udpgate_sources(sources "udpgate/dns/*.cc" "udpgate/dns/*.h")
  list(FILTER sources EXCLUDE REGEX "/host_port\\.(cc|h)$")
  udpgate_component(dns SOURCES ${sources} DEPENDS core
      PRIVATE_LIBRARIES PkgConfig::CARES)
endif()

if("redis" IN_LIST udpgate_wanted)
  pkg_check_modules(HIREDIS REQUIRED IMPORTED_TARGET hiredis)
  udpgate_sources(sources "udpgate/redis/*.cc" "udpgate/redis/*.h")
  list(FILTER sources EXCLUDE REGEX "/redis_tls\\.(cc|h)$")
  udpgate_component(redis SOURCES ${sources} DEPENDS core dns
      PRIVATE_LIBRARIES PkgConfig::HIREDIS)
endif()

if("redis-tls" IN_LIST udpgate_wanted)
  find_package(OpenSSL 3.0 REQUIRED)
  udpgate_component(redis-tls
      SOURCES udpgate/redis/redis_tls.cc udpgate/redis/redis_tls.h
      DEPENDS core redis PRIVATE_LIBRARIES OpenSSL::SSL OpenSSL::Crypto)
endif()

if("forward" IN_LIST udpgate_wanted)
  find_package(OpenSSL 3.0 REQUIRED)
  udpgate_component(forward
      SOURCES udpgate/forward/openssl_envelope_keys.cc
              udpgate/forward/openssl_envelope_keys.h
      DEPENDS core PRIVATE_LIBRARIES OpenSSL::Crypto)
endif()

if("http" IN_LIST udpgate_wanted)
  find_package(OpenSSL 3.0 REQUIRED)
  find_package(Boost 1.81 REQUIRED)
  udpgate_sources(sources "udpgate/http/*.cc" "udpgate/http/*.h")
  udpgate_component(http SOURCES ${sources} DEPENDS core
      PRIVATE_LIBRARIES OpenSSL::SSL OpenSSL::Crypto $<BUILD_INTERFACE:Boost::boost>)
  # Beast asserts what a peer decides, which must not end a process in any build.
  target_compile_definitions(udpgate_http PRIVATE BOOST_DISABLE_ASSERTS)
endif()

if("admin" IN_LIST udpgate_wanted)
  find_package(prometheus-cpp CONFIG REQUIRED COMPONENTS core)
  find_package(nlohmann_json REQUIRED)
  udpgate_sources(sources "udpgate/admin/*.cc" "udpgate/admin/*.h")
  set(folder "${PROJECT_SOURCE_DIR}/udpgate/admin/internal")
  set(page "${PROJECT_BINARY_DIR}/status_page.cc")
  add_custom_command(OUTPUT "${page}"
      COMMAND sh "${folder}/embed_page.sh" "${folder}/status_page.html" "${page}"
      DEPENDS "${folder}/embed_page.sh" "${folder}/status_page.html" VERBATIM)
  udpgate_component(admin SOURCES ${sources} "${page}" DEPENDS core http
      PRIVATE_LIBRARIES prometheus-cpp::core
                        $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
endif()

if("nethernet" IN_LIST udpgate_wanted)
  find_package(OpenSSL 3.0 REQUIRED)
  find_package(nlohmann_json REQUIRED)
  udpgate_sources(sources "udpgate/nethernet/*.cc" "udpgate/nethernet/*.h"
                          "udpgate/stun/*.cc" "udpgate/stun/*.h")
  udpgate_component(nethernet SOURCES ${sources} DEPENDS core http
      PRIVATE_LIBRARIES OpenSSL::Crypto
                        $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
endif()

if("fastpath" IN_LIST udpgate_wanted)
  pkg_check_modules(LIBBPF REQUIRED IMPORTED_TARGET libbpf)
  include("${CMAKE_CURRENT_LIST_DIR}/fastpath_program.cmake")
  udpgate_sources(sources "udpgate/fastpath/*.cc" "udpgate/fastpath/*.h")
  udpgate_component(fastpath
      SOURCES ${sources} "${udpgate_program_object}" DEPENDS core
      PRIVATE_LIBRARIES PkgConfig::LIBBPF)
endif()

if("takeover" IN_LIST udpgate_wanted)
  find_package(nlohmann_json REQUIRED)
  udpgate_sources(sources "udpgate/takeover/*.cc" "udpgate/takeover/*.h")
  udpgate_component(takeover SOURCES ${sources} DEPENDS core
      PRIVATE_LIBRARIES $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
endif()

if("store" IN_LIST udpgate_wanted)
  udpgate_sources(sources "udpgate/store/*.cc" "udpgate/store/*.h")
  if(sources)
    udpgate_component(store SOURCES ${sources} DEPENDS core)
  endif()
endif()

if("testing" IN_LIST udpgate_wanted)
  find_package(GTest REQUIRED)
  udpgate_sources_of_folder(sources "testing/*.cc" "testing/*.h")
  # fake_flow_offload.h and the like are what users get here.
  file(GLOB fakes CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
       "${PROJECT_SOURCE_DIR}/testing/fake_*.cc"
       "${PROJECT_SOURCE_DIR}/testing/fake_*.h")
  list(FILTER fakes EXCLUDE REGEX "_test\\.cc$")
  udpgate_component(testing SOURCES ${sources} ${fakes} DEPENDS core
      LIBRARIES GTest::gmock GTest::gtest)
endif()
