#pragma once

#include "matrix/data_cache/sample.h"
#include "matrix/prepare/prepare.h"

#include <ATen/core/Tensor.h>

#include <memory>

namespace matrix::prepare {

/// Samples without a cache: a call of `get` decodes and runs the VAE on the video, the noisy
/// first frame (drawn by (seed, sample number)) and the ID map; `image_clean_moments` stays
/// undefined. Prompts are encoded once, when it is made, and kept in memory. Decoding runs in the
/// callers' threads, encoding in one at a time.
class OnTheFlySource final : public data_cache::SampleSource {
public:
    /// RunError with every fault of the data set that headers show.
    OnTheFlySource(const PrepareOptions& options, const Encoders& encoders);
    ~OnTheFlySource() override;

    [[nodiscard]] std::int64_t size() const override;
    [[nodiscard]] std::string fingerprint() const override;
    [[nodiscard]] data_cache::EncodedSample get(std::int64_t index, std::uint64_t seed,
                                                std::uint64_t sample_number) const override;
    [[nodiscard]] at::Tensor empty_prompt() const override;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace matrix::prepare
