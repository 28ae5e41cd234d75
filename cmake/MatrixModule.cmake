# ATen's headers are half of what a file takes to compile: they are compiled once, for all targets whose flags are these.
# A file still includes what it uses: the asan preset has none of this.
file(GENERATE OUTPUT "${PROJECT_BINARY_DIR}/torch_headers.cpp" CONTENT "")
add_library(matrix_torch_headers OBJECT "${PROJECT_BINARY_DIR}/torch_headers.cpp")
target_link_libraries(matrix_torch_headers PRIVATE matrix_torch matrix_warnings)
target_precompile_headers(matrix_torch_headers PRIVATE <ATen/ATen.h>)
file(GENERATE OUTPUT "${PROJECT_BINARY_DIR}/CMakeFiles/matrix_torch_headers.dir/cmake_pch.hxx.gch.sum"
    CONTENT "LibTorch 2.11\n")

# matrix_module(<name> SOURCES <files> [LINK <targets>] [PRIVATE <targets>] [NO_TORCH])
# One static library per module. LINK lines are the architecture: scripts/check_layers.py holds includes to them.
function(matrix_module name)
    cmake_parse_arguments(arg "NO_TORCH" "" "SOURCES;LINK;PRIVATE" ${ARGN})
    add_library(matrix_${name} STATIC ${arg_SOURCES})
    add_library(matrix::${name} ALIAS matrix_${name})
    target_include_directories(matrix_${name} PUBLIC "${PROJECT_SOURCE_DIR}/include"
                                              PRIVATE "${PROJECT_SOURCE_DIR}/src")
    target_link_libraries(matrix_${name} PUBLIC ${arg_LINK} PRIVATE matrix_warnings ${arg_PRIVATE})
    if(NOT arg_NO_TORCH)
        target_link_libraries(matrix_${name} PUBLIC matrix_torch)
        target_precompile_headers(matrix_${name} REUSE_FROM matrix_torch_headers)
    endif()
endfunction()

# matrix_test(<name> SOURCES <files> LINK <targets> [LABELS <labels>] [TIMEOUT <seconds>] [NO_TORCH])
# One binary and one ctest entry; the label `fast` is for what finishes in a few seconds.
function(matrix_test name)
    cmake_parse_arguments(arg "NO_TORCH" "TIMEOUT" "SOURCES;LINK;LABELS" ${ARGN})
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 120)
    endif()
    add_executable(${name} ${arg_SOURCES})
    target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/tests")
    target_link_libraries(${name} PRIVATE ${arg_LINK} matrix_warnings GTest::gtest GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name} PRIVATE
        MATRIX_FIXTURES="${PROJECT_SOURCE_DIR}/tests/fixtures" MATRIX_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    if(NOT arg_NO_TORCH)
        target_precompile_headers(${name} REUSE_FROM matrix_torch_headers)
    endif()
    add_test(NAME ${name} COMMAND ${name})
    # Idle OpenMP threads spin: with other jobs on the machine that costs minutes on tiny tensors.
    set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
        ENVIRONMENT "OMP_NUM_THREADS=1")
endfunction()
