#include "cli/export/output_check.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstdio>

#include "matrix/core/error.h"
#include "matrix/core/random.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStem = "diffusion_pytorch_model";
constexpr std::int64_t kSide = 4;        // latents: 2 x 2 patches
constexpr std::int64_t kTextTokens = 8;  // where the model leaves the number free

at::ScalarType stored_dtype(const fs::path& transformer) {
    const tensor_io::FileWeights weights(transformer, kStem, at::kFloat, at::kCPU);
    const std::vector<std::string> keys = weights.keys();
    return keys.empty() ? at::kFloat : weights.stored(keys.front()).scalar_type();
}

std::unique_ptr<models::CogVideoXTransformer> load(const fs::path& transformer,
                                                   at::ScalarType dtype) {
    const auto config = models::CogVideoXConfig::from_file(transformer / "config.json");
    tensor_io::FileWeights weights(transformer, kStem, dtype, at::kCPU);
    return std::make_unique<models::CogVideoXTransformer>(config, weights);
}

at::Tensor noise(const std::string& name, at::IntArrayRef shape) {
    return keyed_normal(shape, 0, Purpose::kNoise, name_key("export." + name));
}

models::BackboneInput smallest_input(const models::CogVideoXTransformer& model) {
    const models::CogVideoXConfig& c = model.config();
    const std::int64_t h = c.use_learned_positional_embeddings ? c.sample_height : kSide;
    const std::int64_t w = c.use_learned_positional_embeddings ? c.sample_width : kSide;
    const std::int64_t tokens = c.has_position_table()
                                    ? c.max_text_seq_length
                                    : std::min(c.max_text_seq_length, kTextTokens);
    models::BackboneInput input;
    input.hidden_states =
        noise("hidden_states", {1, c.patch_size_t.value_or(1), model.in_channels(), h, w})
            .to(model.dtype());
    input.encoder_hidden_states =
        noise("encoder_hidden_states", {1, tokens, c.text_embed_dim}).to(model.dtype());
    input.timestep = at::full({1}, 500, at::kLong);
    return input;
}

}  // namespace

at::ScalarType coarsest_dtype(const fs::path& transformer) {
    const tensor_io::FileWeights weights(transformer, kStem, at::kFloat, at::kCPU);
    at::ScalarType coarsest = at::kFloat;
    for (const std::string& key : weights.keys()) {
        const at::ScalarType dtype = weights.stored(key).scalar_type();
        if (dtype == at::kBFloat16 || (dtype == at::kHalf && coarsest == at::kFloat)) {
            coarsest = dtype;
        }
    }
    return coarsest;
}

OutputCheck::OutputCheck(const fs::path& base, const lora::Adapter& adapter) {
    const fs::path transformer = base / "transformer";
    try {
        model_ = load(transformer,
                      stored_dtype(transformer) == at::kBFloat16 ? at::kBFloat16 : at::kFloat);
        lora::attach(*model_, adapter, false);
    } catch (const RunError& error) {
        throw BaseDoesNotFit("base " + base.string() + ": " + error.faults().front() +
                             (error.faults().size() > 1
                                  ? " (and " + std::to_string(error.faults().size() - 1) + " more)"
                                  : "") +
                             "; --model names the base that the adapter was trained on");
    }
    input_ = smallest_input(*model_);
    const at::NoGradGuard no_grad;
    reference_ = model_->forward(input_, {}).sample.to(at::kDouble);
    if (!at::isfinite(reference_).all().item<bool>()) {
        throw RunError("base " + base.string() +
                       ": the transformer's output with this adapter is not finite");
    }
}

double OutputCheck::error_of(const models::CogVideoXTransformer& model) const {
    const at::NoGradGuard no_grad;
    models::BackboneInput input = input_;
    input.hidden_states = input.hidden_states.to(model.dtype());
    input.encoder_hidden_states = input.encoder_hidden_states.to(model.dtype());
    const at::Tensor sample = model.forward(input, {}).sample.to(at::kDouble);
    return ((sample - reference_).abs().max() / reference_.abs().max()).item<double>();
}

double OutputCheck::of_adapter(const lora::Adapter& read) {
    lora::attach(*model_, read, false);
    return error_of(*model_);
}

double OutputCheck::of_transformer(const fs::path& directory) const {
    // float32 weights are used as they are mapped; in another dtype they would all be copied.
    const bool as_stored = stored_dtype(directory) == at::kFloat;
    return error_of(*load(directory, as_stored ? at::kFloat : model_->dtype()));
}

double OutputCheck::tolerance(at::ScalarType written) const {
    if (model_->dtype() == at::kBFloat16 || written == at::kBFloat16) {
        return 1e-1;
    }
    return written == at::kHalf ? 2e-2 : 1e-4;
}

void require_output(double error, double tolerance, const fs::path& out) {
    if (!(error <= tolerance)) {
        char text[64];
        std::snprintf(text, sizeof text, "%.2g, more than %.2g", error, tolerance);
        throw RunError(out.string() +
                       ": the transformer's output with what was written differs by " + text +
                       " of its largest value");
    }
}

}  // namespace matrix::cli
