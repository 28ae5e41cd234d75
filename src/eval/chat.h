#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "eval/json_reading.h"
#include "matrix/eval/asking.h"

// Chat completion requests, piece by piece.

namespace matrix::eval {

[[nodiscard]] Json text_part(const std::string& text);
/// `name` is that of a picture in the cache.
[[nodiscard]] Json picture_part(const std::string& name);

/// One kind of question to a model.
struct Form {
    const char* name;              ///< of the schema
    std::string_view instruction;  ///< the system's message
    Json schema;                   ///< of the reply, strict
    std::int64_t usual_output_tokens;
};

[[nodiscard]] Json chat_request(const Form& form, const Asking& asking, std::vector<Json> parts);
/// The parts of a request and pictures of one size that go along.
[[nodiscard]] Cost cost_of(const Form& form, const std::string& text, std::int64_t pictures,
                           std::int64_t width_px, std::int64_t height_px);

/// "Frame 15:" and its picture, for each of the video's frames; pictures go into the cache.
[[nodiscard]] std::vector<Json> frame_parts(const ReplyCache& cache,
                                            const std::filesystem::path& video,
                                            const std::vector<std::int64_t>& frames);

// JSON Schema in the strict form: every property required, no others.
[[nodiscard]] Json object_schema(Json properties);
[[nodiscard]] Json array_schema(Json items);
[[nodiscard]] Json enum_schema(std::vector<std::string> words);

}  // namespace matrix::eval
