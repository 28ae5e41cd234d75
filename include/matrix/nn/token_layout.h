#pragma once

#include <cstdint>

namespace matrix::nn {

/// Where text and video stand in the sequence a block's attention sees. Readouts, taps and analysis
/// ask it instead of computing `S = L + F gh gw` by hand.
struct TokenLayout {
    enum class Attention {
        kJoint,  ///< one sequence of text rows, then video rows; queries and keys alike
        kCross,  ///< queries are video rows, keys are text rows
    };

    Attention attention = Attention::kJoint;
    std::int64_t text_tokens = 0;
    std::int64_t frames = 0;       ///< latent frames F (after temporal patching)
    std::int64_t grid_height = 0;  ///< gh
    std::int64_t grid_width = 0;   ///< gw

    [[nodiscard]] std::int64_t frame_tokens() const { return grid_height * grid_width; }
    [[nodiscard]] std::int64_t video_tokens() const { return frames * frame_tokens(); }
    [[nodiscard]] std::int64_t text_begin() const { return 0; }
    /// First video row among the queries.
    [[nodiscard]] std::int64_t video_begin() const {
        return attention == Attention::kJoint ? text_tokens : 0;
    }
    [[nodiscard]] std::int64_t num_queries() const { return video_begin() + video_tokens(); }
    [[nodiscard]] std::int64_t num_keys() const {
        return attention == Attention::kJoint ? num_queries() : text_tokens;
    }
};

}  // namespace matrix::nn
