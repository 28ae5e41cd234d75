#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "matrix/nn/linear.h"
#include "matrix/tensor_io/safetensors.h"

namespace matrix::lora {

/// The header entry under which diffusers keeps peft's LoraConfig: a JSON text, each name prefixed
/// by "transformer.".
inline constexpr const char* kHeaderEntry = "lora_adapter_metadata";

/// What such a header says of ranks and strengths. Patterns are peft's: a regular expression for
/// the end of a linear's name, beginning at a dot; the first that matches counts.
struct LoraHeader {
    std::int64_t rank = 8;  // peft's defaults for what an entry leaves out
    double alpha = 8.0;
    bool rslora = false;
    std::vector<std::pair<std::string, std::int64_t>> rank_pattern;
    std::vector<std::pair<std::string, double>> alpha_pattern;

    [[nodiscard]] std::int64_t rank_of(const std::string& linear) const;
    /// alpha / r, or alpha / sqrt(r) with rslora.
    [[nodiscard]] double scale_of(const std::string& linear) const;
};

/// Nothing if the metadata has no such entry. RunError (starting with `where`) for malformed JSON,
/// values of the wrong type or range and for what would change the result in other ways (DoRA).
[[nodiscard]] std::optional<LoraHeader> read_lora_header(const tensor_io::Metadata& metadata,
                                                         const std::string& where);

/// The same of the text of peft's `adapter_config.json`, where the names have no prefix. RunError
/// also for what a plain LoRA has not: another `peft_type`, trained biases.
[[nodiscard]] LoraHeader read_peft_config(const std::string& text, const std::string& where);

/// `adapter_config.json` of a file of one rank with the strength folded into B.
[[nodiscard]] std::string peft_config_text(std::int64_t rank,
                                           const std::vector<std::string>& linears,
                                           const std::string& base);

/// The entry of a file of one rank with the strength folded into B.
[[nodiscard]] std::string lora_header_text(std::int64_t rank,
                                           const std::vector<std::string>& linears);

}  // namespace matrix::lora
