# Headers, libraries, the CMake package, the .pc files and the program.
include(CMakePackageConfigHelpers)

set(package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/udpgate")
file(RELATIVE_PATH pc_prefix "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
get_property(built GLOBAL PROPERTY udpgate_components)
foreach(name IN LISTS built)
  string(REPLACE "-" "_" underscored "${name}")
  set(target udpgate_${underscored})
  # Each component has an export of its own, so that a consumer of one needs the
  # packages of no other.
  install(TARGETS ${target} EXPORT ${target}
      ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
      LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT runtime
              NAMELINK_COMPONENT development
      FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
              COMPONENT development)
  install(EXPORT ${target} NAMESPACE udpgate:: COMPONENT development
      DESTINATION "${package_folder}" FILE "udpgate-${name}.cmake")

  set(pc_requires ${udpgate_pc_${name}})
  foreach(needed IN LISTS udpgate_needs_${name})
    list(APPEND pc_requires "udpgate-${needed}")
  endforeach()
  list(JOIN pc_requires ", " pc_requires)
  list(JOIN udpgate_pc_private_${name} ", " pc_requires_private)
  set(pc_name "${name}")
  set(pc_library "${target}")
  configure_file(cmake/udpgate.pc.in "udpgate-${name}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/udpgate-${name}.pc"
      DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT development)
endforeach()

set(udpgate_needs "")
foreach(name IN LISTS udpgate_all_components)
  string(APPEND udpgate_needs
         "set(_udpgate_needs_${name} ${udpgate_needs_${name}})\n")
endforeach()
configure_package_config_file(cmake/udpgateConfig.cmake.in udpgateConfig.cmake
    INSTALL_DESTINATION "${package_folder}")
# The interface may change with each minor version below 1.0.
write_basic_package_version_file(udpgateConfigVersion.cmake
    VERSION "${PROJECT_VERSION}" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/udpgateConfig.cmake"
              "${PROJECT_BINARY_DIR}/udpgateConfigVersion.cmake"
    DESTINATION "${package_folder}" COMPONENT development)

if(UDPGATE_PROGRAM)
  install(TARGETS udp-gate DESTINATION "${CMAKE_INSTALL_BINDIR}"
      COMPONENT program)
endif()
