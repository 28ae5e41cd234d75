# LibTorch from the PyTorch wheel, as plain imported targets: find_package(Torch) would want nvcc even for a CPU
# build. LIBTORCH_ROOT (variable or environment) is the directory that holds torch/include and torch/lib's parent,
# i.e. the `torch` folder of a wheel; scripts/setup.sh puts one under the user's cache.
set(_cache_home "$ENV{XDG_CACHE_HOME}")
if(NOT _cache_home)
    set(_cache_home "$ENV{HOME}/.cache")
endif()
set(_candidates "${LIBTORCH_ROOT}" "$ENV{LIBTORCH_ROOT}" "${_cache_home}/matrix.cpp/libtorch-2.11.0/torch")
file(GLOB _python_torch "${_cache_home}/matrix.cpp/python/lib/python3*/site-packages/torch")
list(APPEND _candidates ${_python_torch})
set(_wanted libtorch_cpu.so)
if(MATRIX_WITH_CUDA)
    set(_wanted libtorch_cuda.so)
endif()
foreach(_root IN LISTS _candidates)
    if(_root AND EXISTS "${_root}/lib/${_wanted}")
        set(MATRIX_TORCH_DIR "${_root}")
        break()
    endif()
endforeach()
if(NOT MATRIX_TORCH_DIR)
    message(FATAL_ERROR "LibTorch 2.11 not found: run scripts/setup.sh, or set LIBTORCH_ROOT to the torch folder of a wheel")
endif()
file(STRINGS "${MATRIX_TORCH_DIR}/include/torch/headeronly/version.h" _version
    REGEX "define TORCH_VERSION_(MAJOR|MINOR) ")
if(NOT _version MATCHES "MAJOR 2;.*MINOR 11$")
    message(FATAL_ERROR "${MATRIX_TORCH_DIR} is not LibTorch 2.11 (${_version})")
endif()
message(STATUS "LibTorch: ${MATRIX_TORCH_DIR}")

foreach(_name IN ITEMS torch_cpu c10)
    add_library(wheel_${_name} SHARED IMPORTED)
    set_target_properties(wheel_${_name} PROPERTIES IMPORTED_LOCATION "${MATRIX_TORCH_DIR}/lib/lib${_name}.so")
endforeach()

add_library(matrix_torch INTERFACE)
target_include_directories(matrix_torch SYSTEM INTERFACE
    "${MATRIX_TORCH_DIR}/include" "${MATRIX_TORCH_DIR}/include/torch/csrc/api/include")
target_link_libraries(matrix_torch INTERFACE wheel_torch_cpu wheel_c10)
# The wheel is compiled with NDEBUG (as Release is), and without it at::RecordFunction has one member more.
target_compile_definitions(matrix_torch INTERFACE $<$<NOT:$<CONFIG:Release>>:NDEBUG>)
# The wheel's own libgomp must be the one that is loaded, before the system's.
set(CMAKE_BUILD_RPATH "${MATRIX_TORCH_DIR}/lib")
# For at::parallel_for, which is a loop on one thread where it is compiled without OpenMP.
add_library(matrix_openmp INTERFACE)
file(GLOB _openmp "${MATRIX_TORCH_DIR}/lib/libgomp*.so*")
if(_openmp)
    target_compile_options(matrix_openmp INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
    target_link_libraries(matrix_openmp INTERFACE ${_openmp})
endif()
# The older kind of RPATH, since it also serves the libraries that our libraries need.
add_link_options("LINKER:--disable-new-dtags")

if(MATRIX_WITH_CUDA)
    set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
        set(CMAKE_CUDA_ARCHITECTURES 80 90)
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit 13.0 REQUIRED)
    set(CMAKE_CUDA_STANDARD 20)
    # CMake 3.25 does not know nvcc's C++20 flag.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    foreach(_name IN ITEMS torch_cuda c10_cuda)
        add_library(wheel_${_name} SHARED IMPORTED)
        set_target_properties(wheel_${_name} PROPERTIES IMPORTED_LOCATION "${MATRIX_TORCH_DIR}/lib/lib${_name}.so")
    endforeach()
    # Nothing refers to libtorch_cuda by symbol, so the linker would drop it and CUDA would be "not available".
    target_link_options(matrix_torch INTERFACE "LINKER:--push-state,--no-as-needed"
        "${MATRIX_TORCH_DIR}/lib/libtorch_cuda.so" "LINKER:--pop-state" "LINKER:--allow-shlib-undefined")
    target_link_libraries(matrix_torch INTERFACE wheel_c10_cuda CUDA::cudart)
    target_compile_definitions(matrix_torch INTERFACE MATRIX_WITH_CUDA)
endif()
