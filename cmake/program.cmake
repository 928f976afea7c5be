# The program udp-gate.
find_package(spdlog REQUIRED)
find_package(CLI11 QUIET)
if(NOT CLI11_FOUND)
  # Debian 12's package has headers alone.
  find_path(UDPGATE_CLI11_INCLUDE CLI/CLI.hpp REQUIRED)
endif()
pkg_check_modules(LIBSYSTEMD REQUIRED IMPORTED_TARGET libsystemd)

udpgate_sources(sources "cli/*.cc" "cli/*.h")
list(FILTER sources EXCLUDE REGEX "cli/main\\.cc$")
# Its tests link it, too.
add_library(udpgate_program STATIC EXCLUDE_FROM_ALL ${sources})
udpgate_set_options(udpgate_program)
udpgate_precompile(udpgate_program udpgate_program)
get_property(parts GLOBAL PROPERTY udpgate_components)
list(REMOVE_ITEM parts testing)
list(TRANSFORM parts PREPEND "udpgate::")
target_link_libraries(udpgate_program PUBLIC ${parts}
    spdlog::spdlog nlohmann_json::nlohmann_json PkgConfig::LIBSYSTEMD)

add_executable(udp-gate cli/main.cc)
udpgate_set_options(udp-gate)
target_link_libraries(udp-gate PRIVATE udpgate_program)
