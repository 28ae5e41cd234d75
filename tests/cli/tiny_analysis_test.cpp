#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "analysis/sampling.h"
#include "cli/init/model_maker.h"
#include "matrix/core/files.h"
#include "matrix/core/random.h"
#include "matrix/models/cogvideox.h"
#include "matrix/pipeline/video_pipeline.h"
#include "support/temp_directory.h"

namespace matrix::cli {
namespace {

using analysis::Entity;

/// Two instances and what one does to the other, whose place is both theirs.
std::vector<Entity> entities(const nn::TokenLayout& layout) {
    std::vector<Entity> made;
    for (const auto& [name, seed] : {std::pair("id1", 1), std::pair("id2", 2), {"verb1", 3}}) {
        made.push_back(analysis::testing::entity(name, seed, layout));
    }
    made[2].verb = true;
    made[2].cells = made[0].cells.logical_or(made[1].cells);
    return made;
}

/// What `matrix init --preset tiny` writes, sampled at its own size with its own scheduler.
TEST(TinyPreset, AnalysisOfASamplingIsThatOfItsAttention) {
    const test::TempDirectory directory;
    const ModelFiles files = model_files("tiny");
    write_file_atomically(directory / "transformer.json", files.transformer.dump());
    write_file_atomically(directory / "scheduler.json", files.scheduler.dump());
    const auto config = models::CogVideoXConfig::from_file(directory / "transformer.json");
    tensor_io::GeneratedWeights weights(random_transformer(config, 0, at::kFloat));
    const models::CogVideoXTransformer model(config, weights);

    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, config.max_text_seq_length,
                                 (config.sample_frames - 1) / config.temporal_compression_ratio + 1,
                                 config.sample_height / config.patch_size,
                                 config.sample_width / config.patch_size};
    const std::vector<std::int64_t> latents = {1, layout.frames, config.out_channels,
                                               config.sample_height, config.sample_width};
    const std::vector<std::int64_t> text = {1, layout.text_tokens, config.text_embed_dim};
    at::Tensor image = keyed_normal(latents, 42, Purpose::kImagePosterior, 0);
    image.narrow(1, 1, layout.frames - 1).zero_();
    analysis::testing::expect_reads_its_attention(
        {model,
         config.num_layers,
         diffusion::SchedulerConfig::from_file(directory / "scheduler.json"),
         6,
         pipeline::keyed_draws(42).latents(latents),
         {image,
          {},
          keyed_normal(text, 0, Purpose::kSynth, 0),
          keyed_normal(text, 0, Purpose::kSynth, 1)},
         {}},
        entities(layout), 1e-5);
}

}  // namespace
}  // namespace matrix::cli
