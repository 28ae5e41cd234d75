#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace matrix::cli {

struct EmbeddedFile {
    std::string name;
    std::string_view content;
};

/// The T5 tokenizer's files (assets/t5-tokenizer), carried in the program so that `init` needs
/// nothing beside it.
[[nodiscard]] const std::vector<EmbeddedFile>& tokenizer_files();

}  // namespace matrix::cli
