#include "cli/init/tokenizer_files.h"

// `.incbin` puts a file's bytes between two symbols; the assembler reads it from the source tree at
// build time.
#define MATRIX_EMBED(symbol, file)                    \
    __asm__(                                          \
        ".section .rodata\n"                          \
        ".balign 16\n"                                \
        "matrix_" #symbol                             \
        "_begin:\n"                                   \
        ".incbin \"" MATRIX_TOKENIZER_ASSETS "/" file \
        "\"\n"                                        \
        "matrix_" #symbol                             \
        "_end:\n"                                     \
        ".byte 0\n"                                   \
        ".previous\n");                               \
    extern "C" const char matrix_##symbol##_begin[];  \
    extern "C" const char matrix_##symbol##_end[];

MATRIX_EMBED(added_tokens, "added_tokens.json")
MATRIX_EMBED(special_tokens_map, "special_tokens_map.json")
MATRIX_EMBED(spiece, "spiece.model")
MATRIX_EMBED(tokenizer_config, "tokenizer_config.json")

namespace matrix::cli {
namespace {

std::string_view span(const char* begin, const char* end) {
    return {begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

const std::vector<EmbeddedFile>& tokenizer_files() {
    static const std::vector<EmbeddedFile> files = {
        {"added_tokens.json", span(matrix_added_tokens_begin, matrix_added_tokens_end)},
        {"special_tokens_map.json",
         span(matrix_special_tokens_map_begin, matrix_special_tokens_map_end)},
        {"spiece.model", span(matrix_spiece_begin, matrix_spiece_end)},
        {"tokenizer_config.json", span(matrix_tokenizer_config_begin, matrix_tokenizer_config_end)},
    };
    return files;
}

}  // namespace matrix::cli
