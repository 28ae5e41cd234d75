#include "matrix/eval/scores.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace matrix::eval {
namespace {

constexpr double kLambda = 5.0;

struct Count {
    std::int64_t yes = 0;
    std::int64_t total = 0;
    [[nodiscard]] double share() const {
        return total == 0 ? 0.0 : static_cast<double>(yes) / static_cast<double>(total);
    }
};

Count count(const Answers& answers, std::size_t begin, std::size_t end, bool skip_missing) {
    Count result;
    for (std::size_t i = begin; i < end; ++i) {
        result.yes += answers[i] == Answer::kYes ? 1 : 0;
        result.total += skip_missing && answers[i] == Answer::kMissing ? 0 : 1;
    }
    return result;
}

/// As Python's round(): the nearest decimal of the exact binary value.
double rounded(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3f", value);
    return std::strtod(text, nullptr);
}

double share(const std::vector<Answers>& interactions, std::size_t begin, std::size_t end,
             const ScoreOptions& options) {
    Count pooled;
    double sum = 0.0;
    std::int64_t answered = 0;
    for (const Answers& answers : interactions) {
        const Count own = count(answers, begin, end, options.skip_missing);
        pooled.yes += own.yes;
        pooled.total += own.total;
        sum += own.share();
        answered += own.total > 0 ? 1 : 0;
    }
    if (options.variant == Variant::kPublished) {
        return rounded(pooled.share());
    }
    return answered == 0 ? 0.0 : sum / static_cast<double>(answered);
}

}  // namespace

RawScores raw_scores(const std::vector<Answers>& interactions, const ScoreOptions& options) {
    RawScores result;
    result.kisa = share(interactions, 0, kInteractionQuestions, options);
    result.sgi = share(interactions, kInteractionQuestions, kQuestions, options);
    result.all = share(interactions, 0, kQuestions, options);
    for (const Answers& answers : interactions) {
        const Count own = count(answers, 0, kQuestions, options.skip_missing);
        result.yes += own.yes;
        result.total += own.total;
        result.missing += std::count(answers.begin(), answers.end(), Answer::kMissing);
    }
    return result;
}

Propagation propagation(std::int64_t frames, std::int64_t emergence_count,
                        std::int64_t disappearance_count, const ScoreOptions& options) {
    Propagation result{frames, emergence_count, disappearance_count};
    if (frames == 0) {
        return result;
    }
    const auto score = [&](std::int64_t flagged) {
        return 1.0 - kLambda * static_cast<double>(flagged) / static_cast<double>(frames);
    };
    result.emergence = score(emergence_count);
    result.disappearance = score(disappearance_count);
    result.spi = (result.emergence + result.disappearance) / 2.0;
    if (options.clamp_spi) {
        result.spi = std::max(result.spi, 0.0);
    }
    return result;
}

Fidelity combine(double raw_kisa, double raw_sgi, double spi) {
    const double kisa = raw_kisa * spi;
    const double sgi = raw_sgi * spi;
    return {kisa, sgi, (kisa + sgi) / 2.0};
}

}  // namespace matrix::eval
