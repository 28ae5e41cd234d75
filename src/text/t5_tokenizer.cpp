#include "matrix/text/t5_tokenizer.h"

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "text/special_tokens.h"
#include "text/unicode.h"

#include <ATen/ATen.h>
#include <sentencepiece_processor.h>

#include <algorithm>

namespace matrix::text {

namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, sentencepiece's visible space

using Piece = sentencepiece::ImmutableSentencePieceText_ImmutableSentencePiece;

std::string without_space_marks(std::string_view piece) {
    std::string plain(piece);
    for (auto at = plain.find(kSpaceMark); at != std::string::npos;
         at = plain.find(kSpaceMark, at)) {
        plain.erase(at, kSpaceMark.size());
    }
    return plain;
}

std::string without_spaces(std::string_view surface) {
    std::string plain(surface);
    std::erase(plain, ' ');
    return plain;
}

// Byte offset -> code point offset, for the first `bytes` bytes of a text, both ends included.
std::vector<std::int64_t> code_point_index(std::string_view text) {
    std::vector<std::int64_t> index(text.size() + 1);
    std::int64_t count = 0;
    for (std::size_t at = 0; at < text.size(); ++count) {
        const std::size_t bytes = front_code_point(text.substr(at)).bytes;
        std::fill_n(index.begin() + static_cast<std::ptrdiff_t>(at), bytes, count);
        at += bytes;
    }
    index[text.size()] = count;
    return index;
}

}  // namespace

struct T5Tokenizer::Impl {
    sentencepiece::SentencePieceProcessor processor;

    [[nodiscard]] std::vector<Piece> pieces(std::string_view text,
                                            sentencepiece::ImmutableSentencePieceText& owner) const;
    [[nodiscard]] std::size_t normalised_size(std::string_view text) const;
    [[nodiscard]] std::size_t chunk_end(std::string_view text, std::size_t from, std::size_t chunk,
                                        std::size_t wanted) const;
    [[nodiscard]] Encoding tokens(std::string_view text, std::size_t limit) const;

    void append(std::string_view text, const std::int64_t* code_points, std::size_t limit,
                Encoding& encoding) const;
};

std::vector<Piece> T5Tokenizer::Impl::pieces(
    std::string_view text, sentencepiece::ImmutableSentencePieceText& owner) const {
    const auto status = processor.Encode(text, owner.mutable_proto());
    if (!status.ok()) {
        throw RunError("sentencepiece cannot encode a prompt of " + std::to_string(text.size()) +
                       " bytes: " + status.error_message());
    }
    return owner.pieces();
}

// Bytes of the normalised text, spaces not counted.
std::size_t T5Tokenizer::Impl::normalised_size(std::string_view text) const {
    sentencepiece::ImmutableSentencePieceText owner;
    std::size_t size = 0;
    for (const Piece& piece : pieces(text, owner)) {
        size += without_space_marks(piece.piece()).size();
    }
    return size;
}

// The end of the characters that start at `chunk` and normalise together: the shortest stretch
// after which at least `wanted` bytes of text[from..] have come out.
std::size_t T5Tokenizer::Impl::chunk_end(std::string_view text, std::size_t from, std::size_t chunk,
                                         std::size_t wanted) const {
    std::size_t end = chunk;
    while (end < text.size()) {
        end += front_code_point(text.substr(end)).bytes;
        if (normalised_size(text.substr(from, end - from)) >= wanted) {
            break;
        }
    }
    return end;
}

// sentencepiece's offsets name, for a piece boundary inside the expansion of one character ("1|/2"
// of a half), the start of that character, so that the piece on the left would not cover it. Such
// boundaries show in that the pieces so far hold more than what the original up to there normalises
// to; nearly always the piece equals the original, and nothing needs to be computed.
void T5Tokenizer::Impl::append(std::string_view text, const std::int64_t* code_points,
                               std::size_t limit, Encoding& encoding) const {
    sentencepiece::ImmutableSentencePieceText owner;
    const std::vector<Piece> all = pieces(text, owner);
    std::size_t sync = 0;       // the last boundary known to lie between two characters
    std::size_t sync_size = 0;  // bytes of the pieces since, spaces not counted
    for (const Piece& piece : all) {
        if (encoding.ids.size() == limit) {
            break;
        }
        const std::string plain = without_space_marks(piece.piece());
        std::size_t end = piece.end();
        const bool as_given = sync_size == 0 && plain == without_spaces(piece.surface());
        sync_size += plain.size();
        if (as_given) {
            sync = end;
            sync_size = 0;
        } else if (!plain.empty()) {
            if (normalised_size(text.substr(sync, end - sync)) >= sync_size) {
                sync = end;
                sync_size = 0;
            } else {
                end = chunk_end(text, sync, end, sync_size);
            }
        }
        encoding.ids.push_back(piece.id());
        encoding.spans.push_back({code_points[piece.begin()], code_points[end]});
    }
}

// The first `limit` tokens of a text, or all.
Encoding T5Tokenizer::Impl::tokens(std::string_view text, std::size_t limit) const {
    const std::vector<std::int64_t> code_points = code_point_index(text);
    Encoding encoding;
    for (const Segment& segment : split_special_tokens(text)) {
        if (encoding.ids.size() == limit) {
            break;
        }
        const auto begin = static_cast<std::size_t>(segment.text.data() - text.data());
        if (segment.special_id < 0) {
            append(segment.text, code_points.data() + begin, limit, encoding);
            continue;
        }
        const bool counts = segment.special_id != kPadId && segment.special_id != kEosId;
        const std::int64_t first = code_points[begin];
        const std::int64_t last = code_points[begin + segment.text.size()];
        encoding.ids.push_back(segment.special_id);
        encoding.spans.push_back({first, counts ? last : first});
    }
    return encoding;
}

T5Tokenizer::T5Tokenizer(const std::filesystem::path& directory) : impl_(std::make_unique<Impl>()) {
    const std::filesystem::path path = directory / "spiece.model";
    const std::string model = read_text_file(path, 16u << 20);
    auto& processor = impl_->processor;
    const auto status = processor.LoadFromSerializedProto(model);
    if (!status.ok()) {
        throw RunError(path.string() + ": not a sentencepiece model (" + status.error_message() +
                       ")");
    }
    if (processor.GetPieceSize() != kNumPieces || processor.pad_id() != kPadId ||
        processor.eos_id() != kEosId || processor.unk_id() != kUnknownId) {
        throw RunError(path.string() + ": " + std::to_string(processor.GetPieceSize()) +
                       " pieces; T5 has " + std::to_string(kNumPieces) +
                       " that begin with <pad>, </s>, <unk>");
    }
    // A file cut behind its pieces still parses; it has lost the normaliser.
    if (processor.EncodeAsPieces("  \uFF21  ") != std::vector<std::string>{"\u2581A"}) {
        throw RunError(path.string() + ": the normaliser is not T5's nmt_nfkc");
    }
    check_tokenizer_files(directory);
}

T5Tokenizer::~T5Tokenizer() = default;
T5Tokenizer::T5Tokenizer(T5Tokenizer&&) noexcept = default;
T5Tokenizer& T5Tokenizer::operator=(T5Tokenizer&&) noexcept = default;

Encoding T5Tokenizer::tokens(std::string_view text) const {
    return impl_->tokens(text, std::string_view::npos);
}

Encoding T5Tokenizer::encode(std::string_view text) const {
    constexpr auto kWindow = static_cast<std::size_t>(kMaxTokens);
    Encoding encoding = impl_->tokens(text, kWindow);
    if (encoding.ids.size() == kWindow) {
        encoding.cut_at = encoding.spans.back().begin;
        encoding.ids.pop_back();
        encoding.spans.pop_back();
    }
    if (encoding.ids.empty() || encoding.ids.back() != kEosId) {
        encoding.ids.push_back(kEosId);
        encoding.spans.push_back({});
    }
    encoding.ids.resize(kWindow, kPadId);
    encoding.spans.resize(kWindow);
    return encoding;
}

at::Tensor T5Tokenizer::input_ids(const std::vector<std::string>& texts) const {
    const auto count = static_cast<std::int64_t>(texts.size());
    at::Tensor ids = at::empty({count, kMaxTokens}, at::kLong);
    auto* row = ids.mutable_data_ptr<std::int64_t>();
    for (const std::string& text : texts) {
        const Encoding encoding = encode(text);
        row = std::copy(encoding.ids.begin(), encoding.ids.end(), row);
    }
    return ids;
}

std::string T5Tokenizer::piece(std::int64_t id) const {
    TORCH_CHECK(id >= 0 && id < kNumPieces + kNumExtraIds, "there is no token ", id);
    return id < kNumPieces
               ? impl_->processor.IdToPiece(static_cast<int>(id))
               : "<extra_id_" + std::to_string(kNumPieces + kNumExtraIds - 1 - id) + ">";
}

}  // namespace matrix::text
