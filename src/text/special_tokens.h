#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace matrix::text {

inline constexpr std::int64_t kPadId = 0;
inline constexpr std::int64_t kEosId = 1;
inline constexpr std::int64_t kUnknownId = 2;
inline constexpr std::int64_t kNumPieces = 32000;
inline constexpr std::int64_t kNumExtraIds = 100;

/// A stretch of a prompt: either one special token, or text that sentencepiece encodes.
struct Segment {
    std::string_view text;
    std::int64_t special_id = -1;  ///< -1: plain text
};

/// Cuts a prompt at its special tokens, first to last, leaving out what is empty. The segments are
/// views of `prompt`.
[[nodiscard]] std::vector<Segment> split_special_tokens(std::string_view prompt);

/// RunError naming the file if one of the JSON files beside spiece.model describes another
/// tokenizer.
void check_tokenizer_files(const std::filesystem::path& directory);

}  // namespace matrix::text
