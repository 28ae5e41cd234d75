#pragma once

#include "matrix/core/fields.h"

#include <cstdint>
#include <string>
#include <vector>

namespace matrix::alignment {

/// A part of the config that `null` switches off. It keeps its values while off, so that a field
/// table can point into it, and otherwise reads like std::optional.
template <typename T>
struct Switchable {
    bool present = true;
    T value{};

    explicit operator bool() const { return present; }
    [[nodiscard]] bool has_value() const { return present; }
    void reset() { present = false; }
    T& operator*() { return value; }
    const T& operator*() const { return value; }
    T* operator->() { return &value; }
    const T* operator->() const { return &value; }
};

/// Semantic grounding alignment (paper section 5): words find their instances.
struct SgaConfig {
    std::vector<std::int64_t> blocks = {7, 11};
    double weight = 0.01;
    std::string rows = "v2t";  ///< "v2t": video queries, text keys; "t2v": the paper's ablation
};

/// Semantic propagation alignment (paper section 5): first-frame instances stay bound.
struct SpaConfig {
    std::vector<std::int64_t> blocks = {12};
    double weight = 0.005;
    std::string query = "half";  ///< first-frame cells: "half" covered, or "nearest" pixel
};

struct AlignmentConfig {
    Switchable<SgaConfig> sga;
    Switchable<SpaConfig> spa;
    std::string readout = "logits";  ///< or "probabilities"
    std::string center = "none";     ///< "text", "all": v2t logits less the mean key
    std::string head = "residual";   ///< "affine", "conv"
    double head_learning_rate = 1e-3;
    double bce = 1.0;
    double dice = 1.0;
    double l2 = 1.0;
    bool positive_class_weight = false;
};

/// The table points into `config`, which must outlive it.
[[nodiscard]] FieldTable fields(AlignmentConfig& config);

/// Faults that no single field shows, one line each: centring with probabilities, a block the model
/// has not, a block named twice, a term without blocks.
[[nodiscard]] std::vector<std::string> check(const AlignmentConfig& config,
                                             std::int64_t num_blocks);

/// What is allowed but should be said once at the start of a run, one line each.
[[nodiscard]] std::vector<std::string> warnings(const AlignmentConfig& config);

}  // namespace matrix::alignment
