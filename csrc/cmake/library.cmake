# The library that C and C++ programs link: the C interface alone is visible. BUILD_SHARED_LIBS chooses shared (the
# default) or static; find_package(lrengine) and pkg-config find what `cmake --install` puts down.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

option(BUILD_SHARED_LIBS "Build liblrengine as a shared library" ON)

# The versions are the header's.
file(STRINGS include/lrengine/lrengine.h LRENGINE_VERSION_LINES REGEX "^#define LRENGINE_(VERSION_|ABI_VERSION)")
foreach(part MAJOR MINOR PATCH)
    string(REGEX MATCH "LRENGINE_VERSION_${part} ([0-9]+)" unused "${LRENGINE_VERSION_LINES}")
    set(LRENGINE_VERSION_${part} ${CMAKE_MATCH_1})
endforeach()
string(REGEX MATCH "LRENGINE_ABI_VERSION ([0-9]+)" unused "${LRENGINE_VERSION_LINES}")
set(LRENGINE_ABI_VERSION ${CMAKE_MATCH_1})
set(LRENGINE_VERSION ${LRENGINE_VERSION_MAJOR}.${LRENGINE_VERSION_MINOR}.${LRENGINE_VERSION_PATCH})

file(GLOB LRENGINE_CAPI CONFIGURE_DEPENDS capi/*.cpp)
if(BUILD_SHARED_LIBS)
    add_library(lrengine SHARED ${LRENGINE_CAPI})
    target_link_libraries(lrengine PRIVATE lrengine_core)
    target_link_options(lrengine PRIVATE -Wl,--exclude-libs,ALL
        -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/capi/exports.map)
    set_target_properties(lrengine PROPERTIES VERSION ${LRENGINE_VERSION} SOVERSION ${LRENGINE_ABI_VERSION}
        LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/capi/exports.map)
    set(LRENGINE_PC_LIBS "-L\${libdir} -llrengine")
else()
    # One archive: a program that links it needs to know of no other.
    add_library(lrengine STATIC ${LRENGINE_CAPI} $<TARGET_OBJECTS:lrengine_core>)
    target_include_directories(lrengine PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_compile_options(lrengine PRIVATE ${LRENGINE_WARNINGS})
    # With what C++ needs: a C program is linked by the C compiler.
    target_link_libraries(lrengine PUBLIC Threads::Threads ${CMAKE_DL_LIBS} stdc++ m)
    target_compile_definitions(lrengine PUBLIC LRENGINE_STATIC)
    set(LRENGINE_PC_LIBS "-L\${libdir} -llrengine -lstdc++ -lm -lpthread -ldl")
    set(LRENGINE_PC_CFLAGS " -DLRENGINE_STATIC")
    if(LRENGINE_SENTENCEPIECE AND LRENGINE_SENTENCEPIECE_INCLUDE AND LRENGINE_SENTENCEPIECE_LIBRARY)
        target_link_libraries(lrengine PUBLIC ${LRENGINE_SENTENCEPIECE_LIBRARY})
        string(APPEND LRENGINE_PC_LIBS " ${LRENGINE_SENTENCEPIECE_LIBRARY}")
    endif()
endif()
target_include_directories(lrengine SYSTEM PRIVATE
    $<TARGET_PROPERTY:nlohmann_json::nlohmann_json,INTERFACE_INCLUDE_DIRECTORIES>)
target_include_directories(lrengine PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(lrengine PROPERTIES EXPORT_NAME lrengine)
add_library(lrengine::lrengine ALIAS lrengine)

install(TARGETS lrengine EXPORT lrengine_targets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES include/lrengine/lrengine.h include/lrengine/lrengine.hpp
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lrengine)
if(TARGET lrengine_cuda)
    install(TARGETS lrengine_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})  # where the engine looks: beside itself
endif()

set(LRENGINE_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/lrengine)
install(EXPORT lrengine_targets NAMESPACE lrengine:: FILE lrengineTargets.cmake DESTINATION ${LRENGINE_CONFIG_DIR})
configure_package_config_file(cmake/lrengineConfig.cmake.in lrengineConfig.cmake
    INSTALL_DESTINATION ${LRENGINE_CONFIG_DIR})
# Before 1.0 a minor version may change names.
write_basic_package_version_file(lrengineConfigVersion.cmake VERSION ${LRENGINE_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lrengineConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/lrengineConfigVersion.cmake
    DESTINATION ${LRENGINE_CONFIG_DIR})

# From where the file lies to the prefix, so that an installed tree can be moved.
string(REGEX REPLACE "[^/]+" ".." LRENGINE_PC_UP "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
configure_file(cmake/lrengine.pc.in lrengine.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lrengine.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
