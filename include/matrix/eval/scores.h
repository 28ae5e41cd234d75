#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// InterGenEval's numbers (paper 4, spec section 5): KISA and SGI from ten yes/no answers per key
// interaction, SPI from frames on which instances appear from nowhere or vanish.

namespace matrix::eval {

enum class Answer : std::uint8_t { kMissing, kYes, kNo };

inline constexpr std::size_t kQuestions = 10;
inline constexpr std::size_t kInteractionQuestions = 6;  ///< 1 to 6 are KISA's, 7 to 10 SGI's

/// The answers of one key interaction, question i at i - 1. "no (visually implausible)" is a no.
using Answers = std::array<Answer, kQuestions>;

/// Where paper and public code disagree.
enum class Variant {
    kPublished,  ///< the published numbers': answers of a video pooled, raw scores rounded to three
                 ///< decimals before they meet SPI
    kPaper,      ///< the mean of each interaction's own scores, exact
};

struct ScoreOptions {
    Variant variant = Variant::kPublished;
    /// Unanswered questions leave the denominator, as in the public code; otherwise they are noes.
    bool skip_missing = false;
    bool clamp_spi = false;  ///< SPI below 0 becomes 0; neither paper nor code does that
};

/// KISA and SGI of a video before SPI.
struct RawScores {
    double kisa = 0.0;
    double sgi = 0.0;
    double all = 0.0;  ///< over all ten questions
    std::int64_t yes = 0;
    std::int64_t total = 0;    ///< the denominator
    std::int64_t missing = 0;  ///< unanswered, whatever becomes of them
};
/// 0 where nothing was answered.
[[nodiscard]] RawScores raw_scores(const std::vector<Answers>& interactions,
                                   const ScoreOptions& options);

struct Propagation {
    std::int64_t frames = 0;  ///< sampled, without the first
    std::int64_t emergence_count = 0;
    std::int64_t disappearance_count = 0;
    double emergence = 0.0;  ///< 1 - 5 e / n
    double disappearance = 0.0;
    double spi = 0.0;  ///< their mean: 1 to -4; 0 without frames
};
[[nodiscard]] Propagation propagation(std::int64_t frames, std::int64_t emergence_count,
                                      std::int64_t disappearance_count,
                                      const ScoreOptions& options);

struct Fidelity {
    double kisa = 0.0;
    double sgi = 0.0;
    double fidelity = 0.0;  ///< IF
};
/// KISA and SGI times SPI, and their mean.
[[nodiscard]] Fidelity combine(double raw_kisa, double raw_sgi, double spi);

}  // namespace matrix::eval
