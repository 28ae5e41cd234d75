#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "matrix/eval/layout.h"
#include "matrix/eval/scores.h"
#include "matrix/eval/vlm.h"

namespace CLI {
class App;
}

namespace matrix::cli::eval {

using namespace matrix::eval;

/// What is evaluated.
struct DataFlags {
    std::string root;
    Selection wanted;

    void add(CLI::App& command, bool with_models);
    [[nodiscard]] Layout layout() const { return {root}; }
};

/// Whom to ask, and how.
struct AskingFlags {
    std::string api_base;
    std::string vlm = "gpt-5";
    std::int64_t seed = 42;
    std::size_t concurrency = 4;
    double timeout_seconds = 600.0;
    AskingLimits limits;
    bool dry_run = false;
    double price_input = -1.0;  ///< per million tokens; below 0: not given
    double price_output = -1.0;

    void add(CLI::App& command);
    /// UsageError for a missing address or key; warns of a key sent in clear text. Only here is the
    /// key read.
    [[nodiscard]] Server server() const;
};

/// How scores are formed.
struct ScoreFlags {
    std::string variant = "published";
    bool skip_missing = false;
    bool clamp_spi = false;

    void add(CLI::App& command);
    [[nodiscard]] ScoreOptions options() const;
};

}  // namespace matrix::cli::eval
