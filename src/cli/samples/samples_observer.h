#pragma once

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/run_config.h"
#include "matrix/data_cache/sample.h"
#include "matrix/lora/adapter.h"
#include "matrix/train/observer.h"
#include "matrix/train/trainer.h"

namespace matrix::cli::samples {

/// Videos on the way, in `samples/step-00000500/`: for each of the first clips, held-out ones where
/// there are any, the clip, what the base makes of its first frame and prompt, and what the base
/// makes with the adapter as it would be exported now, written and read back. Side by side as
/// STEM.mp4, some frames of each as STEM.png, the adapter's alone as STEM-adapter.mp4.
///
/// Each rank makes the videos of its own clips and then meets the others, outside any exchange;
/// where they share the base they make all of them together, and meet where one of them decodes.
/// The base model in memory is used as it is; the VAE's decoder is there for as long as it works,
/// in tiles. A signal ends the sampling, at the next clip where the base is shared, and training
/// goes on to where it saves.
class SamplesObserver final : public train::StepObserver {
public:
    /// Everything given must outlive the observer; `held_out` may be null.
    SamplesObserver(const RunConfig& config, const train::RunParts& parts,
                    const data_cache::SampleSource* held_out);

    void at_start(std::int64_t) override {}
    void after_step(std::int64_t, nlohmann::json&, const nlohmann::json&) override {}
    void after_saving(std::int64_t step) override;
    void at_end(std::int64_t) override {}

private:
    void sample(std::int64_t step);
    /// An exchange: whether a signal asks any rank to stop.
    [[nodiscard]] bool any_rank_stops(const std::string& what) const;
    [[nodiscard]] std::optional<at::Tensor> latents_with(
        const lora::Adapter& adapter, const data_cache::EncodedSample& clip) const;
    void write(std::int64_t clip_index, const data_cache::EncodedSample& clip,
               const at::Tensor& latents, std::int64_t step) const;
    /// The trained tensors by way of an adapter directory.
    [[nodiscard]] lora::Adapter exported() const;

    const RunConfig& config_;
    const train::RunParts& parts_;
    const data_cache::SampleSource& clips_;
    const data_cache::DataConfig data_;
    lora::Adapter base_;                              ///< the input projection as it was, at most
    std::map<std::int64_t, at::Tensor> base_videos_;  ///< by clip, [T, H, W, 3] uint8
};

}  // namespace matrix::cli::samples
