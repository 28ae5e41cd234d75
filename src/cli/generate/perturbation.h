#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/generate/settings.h"
#include "matrix/pipeline/perturbation.h"
#include "matrix/pipeline/video_size.h"

namespace matrix::cli::generate {

/// Fills in the published blocks where the model is as deep as the one they were found in, and
/// appends every fault: blocks that are missing or that the model has not, interactions that are
/// missing, malformed or whose phrases the prompt has not, settings of a guidance that is not on.
void resolve_perturbation(VideoSettings& settings, const pipeline::SizeRules& rules,
                          std::vector<std::string>& faults);

/// What resolved settings say of the perturbed pass; `model` has the tokenizer. RunError: a phrase
/// behind the token limit, tracks that are missing, too short, of another shape, or empty.
[[nodiscard]] pipeline::Perturbation load_perturbation(const VideoSettings& settings,
                                                       const pipeline::SizeRules& rules,
                                                       const std::filesystem::path& model);

}  // namespace matrix::cli::generate
