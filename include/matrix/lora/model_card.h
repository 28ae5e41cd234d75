#pragma once

#include "matrix/lora/adapter.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace matrix::lora {

/// What a model card is written from.
struct CardFacts {
    AdapterInfo info;                   ///< of the trained adapter
    std::vector<std::string> linears;   ///< that have a delta
    bool whole_projection = false;      ///< whether the input projection was trained whole
    bool linear_projection = false;     ///< of a model with temporal patches, as far as is known
    std::string format;                 ///< "diffusers", ..., or "merged"
    std::vector<std::string> files;     ///< safetensors files that were written
    std::string run_config;             ///< the run's resolved config as JSON, or empty: not known
    std::optional<std::int64_t> steps;  ///< optimizer steps done; those of the config if not given
};

/// The facts of an adapter without what only the caller knows of format, files and run.
[[nodiscard]] CardFacts card_facts(const Adapter& adapter);

/// `README.md` in the form of the Hugging Face hub: front matter, what was trained, and how to load
/// the files in the tools of the format. Says only what is known, names no directory of the machine
/// it was made on, and depends on nothing but its argument.
[[nodiscard]] std::string model_card(const CardFacts& facts);

}  // namespace matrix::lora
