#include <nlohmann/json.hpp>

#include "cli/init/model_maker.h"
#include "cli/init/tokenizer_files.h"
#include "cli/run_config.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"

namespace matrix::cli {
namespace {

using nlohmann::json;

// The 5B-I2V repository's values; `tiny` is the same architecture with other sizes.
json transformer_config() {
    return {{"_class_name", "CogVideoXTransformer3DModel"},
            {"activation_fn", "gelu-approximate"},
            {"attention_bias", true},
            {"attention_head_dim", 64},
            {"dropout", 0.0},
            {"flip_sin_to_cos", true},
            {"freq_shift", 0},
            {"in_channels", 32},
            {"max_text_seq_length", 226},
            {"norm_elementwise_affine", true},
            {"norm_eps", 1e-05},
            {"num_attention_heads", 48},
            {"num_layers", 42},
            {"out_channels", 16},
            {"patch_size", 2},
            {"sample_frames", 49},
            {"sample_height", 60},
            {"sample_width", 90},
            {"spatial_interpolation_scale", 1.875},
            {"temporal_compression_ratio", 4},
            {"temporal_interpolation_scale", 1.0},
            {"text_embed_dim", 4096},
            {"time_embed_dim", 512},
            {"timestep_activation_fn", "silu"},
            {"use_learned_positional_embeddings", true},
            {"use_rotary_positional_embeddings", true}};
}

json vae_config() {
    const std::string down = "CogVideoXDownBlock3D", up = "CogVideoXUpBlock3D";
    return {{"_class_name", "AutoencoderKLCogVideoX"},
            {"act_fn", "silu"},
            {"block_out_channels", {128, 256, 256, 512}},
            {"down_block_types", {down, down, down, down}},
            {"force_upcast", true},
            {"in_channels", 3},
            {"latent_channels", 16},
            {"latents_mean", nullptr},
            {"latents_std", nullptr},
            {"layers_per_block", 3},
            {"norm_eps", 1e-06},
            {"norm_num_groups", 32},
            {"out_channels", 3},
            {"sample_height", 480},
            {"sample_width", 720},
            {"scaling_factor", 0.7},
            {"shift_factor", nullptr},
            {"temporal_compression_ratio", 4},
            {"up_block_types", {up, up, up, up}},
            {"use_post_quant_conv", false},
            {"use_quant_conv", false}};
}

json text_encoder_config() {
    return {{"architectures", {"T5EncoderModel"}},
            {"d_ff", 10240},
            {"d_kv", 64},
            {"d_model", 4096},
            {"decoder_start_token_id", 0},
            {"dense_act_fn", "gelu_new"},
            {"dropout_rate", 0.1},
            {"eos_token_id", 1},
            {"feed_forward_proj", "gated-gelu"},
            {"initializer_factor", 1.0},
            {"is_encoder_decoder", true},
            {"is_gated_act", true},
            {"layer_norm_epsilon", 1e-06},
            {"model_type", "t5"},
            {"num_decoder_layers", 24},
            {"num_heads", 64},
            {"num_layers", 24},
            {"pad_token_id", 0},
            {"relative_attention_max_distance", 128},
            {"relative_attention_num_buckets", 32},
            {"tie_word_embeddings", false},
            {"use_cache", true},
            {"vocab_size", 32128}};
}

json scheduler_config() {
    return {{"_class_name", "CogVideoXDDIMScheduler"},
            {"beta_end", 0.012},
            {"beta_schedule", "scaled_linear"},
            {"beta_start", 0.00085},
            {"clip_sample", false},
            {"clip_sample_range", 1.0},
            {"num_train_timesteps", 1000},
            {"prediction_type", "v_prediction"},
            {"rescale_betas_zero_snr", true},
            {"sample_max_value", 1.0},
            {"set_alpha_to_one", true},
            {"snr_shift_scale", 1.0},
            {"steps_offset", 0},
            {"timestep_spacing", "trailing"},
            {"trained_betas", nullptr}};
}

json model_index() {
    return {{"_class_name", "CogVideoXImageToVideoPipeline"},
            {"scheduler", {"diffusers", "CogVideoXDDIMScheduler"}},
            {"text_encoder", {"transformers", "T5EncoderModel"}},
            {"tokenizer", {"transformers", "T5Tokenizer"}},
            {"transformer", {"diffusers", "CogVideoXTransformer3DModel"}},
            {"vae", {"diffusers", "AutoencoderKLCogVideoX"}}};
}

/// 17 frames of 96 x 160: 5 x 6 x 10 = 300 video tokens.
void shrink(ModelFiles& files) {
    files.transformer.update({{"attention_head_dim", 32},
                              {"num_attention_heads", 4},
                              {"num_layers", 8},
                              {"sample_frames", 17},
                              {"sample_height", 12},
                              {"sample_width", 20},
                              {"text_embed_dim", 64},
                              {"time_embed_dim", 64}});
    files.vae.update({{"block_out_channels", {16, 16, 32, 32}},
                      {"layers_per_block", 1},
                      {"norm_num_groups", 8},
                      {"sample_height", 96},
                      {"sample_width", 160}});
    files.text_encoder.update({{"d_ff", 128},
                               {"d_kv", 16},
                               {"d_model", 64},
                               {"num_decoder_layers", 2},
                               {"num_heads", 4},
                               {"num_layers", 2}});
}

void check_preset(const std::string& preset) {
    if (preset != "tiny" && preset != "5b-i2v") {
        throw UsageError("--preset: \"" + preset + "\" is not one of tiny, 5b-i2v");
    }
}

}  // namespace

ModelFiles model_files(const std::string& preset) {
    check_preset(preset);
    ModelFiles files{transformer_config(), vae_config(), text_encoder_config(), scheduler_config(),
                     model_index()};
    if (preset == "tiny") {
        shrink(files);
    }
    return files;
}

nlohmann::json run_file(const std::string& preset) {
    check_preset(preset);
    RunConfig config;
    if (preset == "tiny") {
        config.model.dtype = "float32";
        config.data.frames = 17;
        config.data.height = 96;
        config.data.width = 160;
        config.lora.rank = 32;
        config.lora.alpha = 32;
        config.lora.blocks = {0, 1, 2, 3, 4, 5, 6, 7};
        config.alignment.sga->blocks = {2};
        config.alignment.sga->weight = 0.011;
        config.alignment.spa->blocks = {1};
        config.alignment.spa->weight = 0.1;
        config.alignment.center = "text";
        config.alignment.head = "affine";
        config.alignment.head_learning_rate = 0.06;
        config.optimizer.learning_rate = 1e-2;
        config.schedule.warmup_steps = 20;
        config.train.steps = 1300;
        config.train.batch_size = 2;
        config.checkpoint.every_steps = 250;
        config.output = "runs/tiny";
    }
    return fields(config).write();
}

void write_configs(const ModelFiles& files, const std::filesystem::path& directory) {
    const auto write = [&](const char* name, const nlohmann::json& content) {
        write_file_atomically(directory / name, content.dump(2) + "\n");
    };
    write("model_index.json", files.model_index);
    write("transformer/config.json", files.transformer);
    write("vae/config.json", files.vae);
    write("text_encoder/config.json", files.text_encoder);
    write("scheduler/scheduler_config.json", files.scheduler);
    for (const EmbeddedFile& file : tokenizer_files()) {
        write_file_atomically(directory / "tokenizer" / file.name, file.content);
    }
}

}  // namespace matrix::cli
