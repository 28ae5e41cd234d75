# cmake --install BUILD --prefix DIR: bin/, lib/ and share/, which may be moved or copied to another machine together.
# Component `program` is all but LibTorch; `libtorch` is LibTorch, laid out as in its wheels (torch/ beside nvidia/),
# since its libraries find each other by paths relative to that.
set_target_properties(matrix PROPERTIES INSTALL_RPATH
    "$ORIGIN/../lib/torch/lib;$ORIGIN/../lib/nvidia/cu13/lib;$ORIGIN/../lib")
install(TARGETS matrix RUNTIME_DEPENDENCY_SET matrix_needs RUNTIME DESTINATION bin COMPONENT program)
install(DIRECTORY configs DESTINATION share/matrix COMPONENT program)
install(DIRECTORY scripts/slurm DESTINATION share/matrix COMPONENT program USE_SOURCE_PERMISSIONS)
install(FILES docs/config.schema.json DESTINATION share/matrix/docs COMPONENT program) # where configs/ look for it

# The system's libraries stay the system's; those of a prefix that scripts/setup.sh filled without root go along.
install(RUNTIME_DEPENDENCY_SET matrix_needs
    PRE_EXCLUDE_REGEXES "^lib(torch|c10|cudart|gomp)" POST_EXCLUDE_REGEXES "^/lib" "^/usr/lib"
    LIBRARY DESTINATION lib COMPONENT program)

set(_licences share/doc/matrix)
install(FILES LICENSE third_party/LICENSES.md DESTINATION ${_licences} COMPONENT program)
install(FILES assets/t5-tokenizer/NOTICE DESTINATION ${_licences}/t5-tokenizer COMPONENT program)
cmake_path(GET MATRIX_SPDLOG_INCLUDE PARENT_PATH _prefix)
if(_prefix STREQUAL "/usr")
    foreach(_package IN ITEMS nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev libxxhash-dev)
        install(FILES "/usr/share/doc/${_package}/copyright" DESTINATION ${_licences}/${_package}
            COMPONENT program OPTIONAL)
    endforeach()
else()
    install(DIRECTORY "${_prefix}/share/doc/" DESTINATION ${_licences} COMPONENT program
        FILES_MATCHING PATTERN copyright)
endif()

# A CPU program takes five libraries of LibTorch's. A CUDA program takes all that are not Python's (3.5 GB): many are
# opened by name at run time, so that no list of what it needs would stay true.
file(REAL_PATH "${MATRIX_TORCH_DIR}" _torch)
cmake_path(GET _torch PARENT_PATH _site)
if(MATRIX_WITH_CUDA)
    set(_patterns torch/lib/*.so* nvidia/*/lib/*.so* torch-*.dist-info/licenses/* nvidia_*.dist-info/licenses/*)
else()
    set(_patterns torch/lib/libc10.so torch/lib/libtorch_cpu.so torch/lib/libgomp*.so* nvidia/*/lib/libcudart.so*
        nvidia/*/lib/libcupti.so* torch-*.dist-info/licenses/* nvidia_cuda_runtime-*.dist-info/licenses/*
        nvidia_cuda_cupti-*.dist-info/licenses/*)
endif()
list(TRANSFORM _patterns PREPEND "${_site}/")
file(GLOB _files RELATIVE "${_site}" ${_patterns})
list(FILTER _files EXCLUDE REGEX "/lib(torch_python|shm)")
foreach(_file IN LISTS _files)
    cmake_path(GET _file PARENT_PATH _folder)
    if(_folder MATCHES "/licenses$")
        set(_to "${_licences}/${_folder}")
    else()
        set(_to "lib/${_folder}")
    endif()
    install(FILES "${_site}/${_file}" DESTINATION "${_to}" COMPONENT libtorch)
endforeach()
