#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace matrix::text {

/// Length of every encoded prompt: CogVideoX's max_text_seq_length.
inline constexpr std::int64_t kMaxTokens = 226;

/// Half-open range of characters, in code points of the text as it was given (before
/// normalisation). A byte that is not part of valid UTF-8 counts as one code point.
struct Span {
    std::int64_t begin = 0;
    std::int64_t end = 0;

    [[nodiscard]] bool empty() const { return begin >= end; }
    friend bool operator==(const Span&, const Span&) = default;
};

/// Token ids and, one for one, the characters each token stands for. `</s>` and padding (also where
/// the prompt spells them out) have empty spans, as has a token that is only a space with no
/// character of its own (before a text, inside an expansion). Where normalisation expands one
/// character into several tokens ("½"), each of them covers that character.
struct Encoding {
    std::vector<std::int64_t> ids;
    std::vector<Span> spans;
    /// First character of the first token that did not fit, if one did not.
    std::optional<std::int64_t> cut_at;

    [[nodiscard]] bool truncated() const { return cut_at.has_value(); }
};

/// The T5 tokenizer of CogVideoX: sentencepiece's unigram model with its own normaliser, and around
/// it what the slow (sentencepiece) T5Tokenizer of transformers does with `legacy: true`:
///  - "<pad>", "</s>", "<unk>" and "<extra_id_0>".."<extra_id_99>" in the text are tokens of their
///  own (0, 1, 2 and
///    32099 - k); extra ids swallow the white space on both sides;
///  - the text between them is encoded piece by piece, each with sentencepiece's leading space;
///  - one </s> is appended unless the last token already is one.
/// Each byte of invalid UTF-8 is an unknown character, as in sentencepiece. Thread-safe once
/// constructed.
class T5Tokenizer {
public:
    /// Reads `spiece.model`; tokenizer_config.json and added_tokens.json, where present, must agree
    /// with the rules above. RunError naming the file otherwise.
    explicit T5Tokenizer(const std::filesystem::path& directory);
    ~T5Tokenizer();
    T5Tokenizer(T5Tokenizer&&) noexcept;
    T5Tokenizer& operator=(T5Tokenizer&&) noexcept;

    /// The model's input: exactly kMaxTokens ids, the first 225 tokens at most, `</s>`, then
    /// padding (0).
    [[nodiscard]] Encoding encode(std::string_view text) const;

    /// All tokens of the text, without </s>, truncation or padding.
    [[nodiscard]] Encoding tokens(std::string_view text) const;

    /// `encode` of every text: [n, kMaxTokens] I64.
    [[nodiscard]] at::Tensor input_ids(const std::vector<std::string>& texts) const;

    /// The token's own text, with U+2581 for the space before a word; 0 to 32099.
    [[nodiscard]] std::string piece(std::int64_t id) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace matrix::text
