# Everything but LibTorch: Debian packages, listed in third_party/. Nothing is downloaded here.
# scripts/setup.sh --from puts header-only ones into a prefix of our own on machines without network.
list(APPEND CMAKE_PREFIX_PATH "${_cache_home}/matrix.cpp/deps")
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 REQUIRED)

# Header-only on both sides, so that a program without media needs no shared library but LibTorch's.
find_path(MATRIX_SPDLOG_INCLUDE spdlog/spdlog.h REQUIRED)
find_path(MATRIX_FMT_INCLUDE fmt/format.h REQUIRED)
add_library(matrix_spdlog INTERFACE)
target_include_directories(matrix_spdlog SYSTEM INTERFACE "${MATRIX_SPDLOG_INCLUDE}" "${MATRIX_FMT_INCLUDE}")
target_compile_definitions(matrix_spdlog INTERFACE SPDLOG_FMT_EXTERNAL FMT_HEADER_ONLY=1)
target_link_libraries(matrix_spdlog INTERFACE Threads::Threads)

find_path(MATRIX_XXHASH_INCLUDE xxhash.h REQUIRED)
add_library(matrix_xxhash INTERFACE)
target_include_directories(matrix_xxhash SYSTEM INTERFACE "${MATRIX_XXHASH_INCLUDE}")
target_compile_definitions(matrix_xxhash INTERFACE XXH_INLINE_ALL)

# matrix_system_library(<name> HEADER <file> [SUFFIX <folder>] LIBRARIES <names>): matrix_<name>, found by hand:
# Debian's CMake files of OpenCV come only with the whole of it (210 packages), FFmpeg and sentencepiece have none.
function(matrix_system_library name)
    cmake_parse_arguments(arg "" "HEADER;SUFFIX" "LIBRARIES" ${ARGN})
    find_path(MATRIX_${name}_INCLUDE "${arg_HEADER}" PATH_SUFFIXES "${arg_SUFFIX}" REQUIRED)
    add_library(matrix_${name} INTERFACE)
    target_include_directories(matrix_${name} SYSTEM INTERFACE "${MATRIX_${name}_INCLUDE}")
    foreach(_library IN LISTS arg_LIBRARIES)
        find_library(MATRIX_LIBRARY_${_library} "${_library}" REQUIRED)
        target_link_libraries(matrix_${name} INTERFACE "${MATRIX_LIBRARY_${_library}}")
    endforeach()
endfunction()

if(MATRIX_WITH_MEDIA)
    find_package(PNG REQUIRED)
    matrix_system_library(ffmpeg HEADER libavcodec/avcodec.h LIBRARIES avfilter avformat avcodec avutil swscale)
    matrix_system_library(opencv HEADER opencv2/core.hpp SUFFIX opencv4
        LIBRARIES opencv_core opencv_imgproc opencv_imgcodecs)
    matrix_system_library(curl HEADER curl/curl.h LIBRARIES curl)
endif()
if(MATRIX_WITH_TEXT)
    matrix_system_library(sentencepiece HEADER sentencepiece_processor.h LIBRARIES sentencepiece)
endif()

if(MATRIX_BUILD_TESTS)
    find_package(GTest REQUIRED)
endif()

find_program(MATRIX_CCACHE ccache)
if(MATRIX_CCACHE)
    # With paths relative to the source, one clone finds what another has compiled. The rest is what ccache asks
    # for where headers are precompiled; these differ in every build, so that a .sum of ours stands for them.
    set(_ccache "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1
        CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_PCH_EXTSUM=1 "${MATRIX_CCACHE}")
    add_compile_options("$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>")
    set(CMAKE_CXX_COMPILER_LAUNCHER ${_ccache})
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${_ccache})
endif()
find_program(MATRIX_MOLD mold)
if(MATRIX_MOLD)
    add_link_options(-fuse-ld=mold)
endif()
