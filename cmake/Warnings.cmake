# Warnings are errors on our own targets; dependencies come in as SYSTEM headers and stay quiet.
add_library(matrix_warnings INTERFACE)
target_compile_options(matrix_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror>)
# GCC 12 sees overlapping copies in `"literal" + std::string` where there are none (GCC bug 105651), and with precompiled
# headers copies that are too long, too.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(matrix_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
    if(NOT CMAKE_DISABLE_PRECOMPILE_HEADERS)
        target_compile_options(matrix_warnings INTERFACE
            "$<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread>")
    endif()
endif()

if(MATRIX_SANITIZE)
    # The instrumented code hides initialisations from GCC, which then warns inside LibTorch's own headers.
    target_compile_options(matrix_warnings INTERFACE
        $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>)
    add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
    add_link_options(-fsanitize=address,undefined)
endif()
