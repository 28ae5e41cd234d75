#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>

#include "matrix/core/error.h"
#include "matrix/lora/adapter.h"
#include "matrix/models/cogvideox.h"

namespace matrix::cli {

/// The base cannot take the adapter.
class BaseDoesNotFit : public RunError {
public:
    using RunError::RunError;
};

/// The dtype of a transformer directory's tensors that rounds most.
[[nodiscard]] at::ScalarType coarsest_dtype(const std::filesystem::path& transformer);

/// The transformer's output on one fixed input, with the adapter as it was trained and with what
/// was written of it. The input is the smallest that the model takes (one latent frame; 4 x 4
/// latents, or the size of a learned position table), normal values, timestep 500. Computes on the
/// CPU in the base's own dtype, float32 for a float16 base.
class OutputCheck {
public:
    /// Loads the base and computes the reference. BaseDoesNotFit starting with "base DIR" if it is
    /// no model, or if it has not a block or shape that the adapter is for.
    OutputCheck(const std::filesystem::path& base, const lora::Adapter& adapter);

    /// Relative error (largest difference over the largest value) with the adapter read back.
    [[nodiscard]] double of_adapter(const lora::Adapter& read);
    /// The same of a transformer directory with the adapter merged in.
    [[nodiscard]] double of_transformer(const std::filesystem::path& directory) const;

    /// Of the model that was trained: with an ID map, half as many again as the base's.
    [[nodiscard]] std::int64_t in_channels() const { return model_->in_channels(); }
    /// The largest error that an export in `written` may have. float32 throughout: 1e-4, some
    /// hundred times what sums in another order give; float16: 2e-2; with bfloat16, in the base or
    /// the file, 1e-1, since every layer rounds to 8 bits.
    [[nodiscard]] double tolerance(at::ScalarType written) const;

private:
    [[nodiscard]] double error_of(const models::CogVideoXTransformer& model) const;

    std::unique_ptr<models::CogVideoXTransformer> model_;
    models::BackboneInput input_;
    at::Tensor reference_;
};

/// RunError naming `out` if the error is above the tolerance.
void require_output(double error, double tolerance, const std::filesystem::path& out);

}  // namespace matrix::cli
