#include <cstdio>
#include <optional>

#include "cli/check/report.h"
#include "matrix/core/error.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/models/cogvideox.h"
#include "matrix/models/t5.h"
#include "matrix/models/vae.h"
#include "matrix/tensor_io/weights.h"
#include "matrix/text/t5_tokenizer.h"

namespace matrix::cli::check {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kTokenIds = 32100;  ///< sentencepiece's 32000 and T5's 100 extra ids

/// Files that are looked at and not read: a model is constructed from tensors without memory.
class InspectedWeights final : public tensor_io::WeightSource {
public:
    InspectedWeights(const fs::path& directory, const std::string& stem)
        : files_(directory, stem, at::kFloat, at::kCPU) {}

    at::Tensor take(const std::string& key, at::IntArrayRef shape) override {
        files_.expect(key, shape);
        return counted_.take(key, shape);
    }
    [[nodiscard]] bool has(const std::string& key) const override { return files_.has(key); }
    void allow_copy(const std::string& key, const std::string& original) override {
        files_.allow_copy(key, original);
    }
    void finish() override { files_.finish(); }

    [[nodiscard]] std::int64_t num_parameters() const { return counted_.num_elements(); }
    [[nodiscard]] std::size_t num_tensors() const { return counted_.shapes().size(); }

private:
    tensor_io::FileWeights files_;
    tensor_io::CountingWeights counted_;
};

std::string count_text(std::int64_t count) {
    const bool billions = count >= 1'000'000'000;
    char text[32];
    std::snprintf(text, sizeof text, "%.3f %s", static_cast<double>(count) / (billions ? 1e9 : 1e6),
                  billions ? "billion" : "million");
    return text;
}

class ModelCheck {
public:
    explicit ModelCheck(const fs::path& model) : model_(model) {}

    Report run() {
        component("transformer", [&](const fs::path& directory) { transformer(directory); });
        component("vae", [&](const fs::path& directory) { vae(directory); });
        component("text_encoder", [&](const fs::path& directory) { text_encoder(directory); });
        component("tokenizer", [&](const fs::path& directory) { tokenizer(directory); });
        component("scheduler", [&](const fs::path& directory) { scheduler(directory); });
        compare();
        return std::move(report_);
    }

private:
    void component(const std::string& name, const std::function<void(const fs::path&)>& look) {
        report_.collect([&] {
            if (!fs::is_directory(model_ / name)) {
                throw RunError((model_ / name).string() +
                               ": missing; a CogVideoX model directory has transformer, vae, "
                               "text_encoder, tokenizer and scheduler");
            }
            look(model_ / name);
        });
    }

    void add(const std::string& name, const std::string& text, json facts) {
        report_.lines.push_back(name + std::string(14 - name.size(), ' ') + text);
        report_.facts["components"][name] = std::move(facts);
    }

    void add_weights(const std::string& name, const InspectedWeights& weights,
                     const std::string& text) {
        add(name,
            count_text(weights.num_parameters()) + " parameters in " +
                std::to_string(weights.num_tensors()) + " tensors" + text,
            {{"parameters", weights.num_parameters()}, {"tensors", weights.num_tensors()}});
    }

    void transformer(const fs::path& directory) {
        transformer_ = models::CogVideoXConfig::from_file(directory / "config.json");
        InspectedWeights weights(directory, "diffusion_pytorch_model");
        const models::CogVideoXTransformer checked(*transformer_, weights);
        add_weights("transformer", weights,
                    "; " + std::to_string(transformer_->num_layers) + " blocks of width " +
                        std::to_string(transformer_->width()) + ", " +
                        std::to_string(transformer_->in_channels) + " input channels");
    }

    void vae(const fs::path& directory) {
        vae_ = models::VaeConfig::from_file(directory / "config.json");
        InspectedWeights weights(directory, "diffusion_pytorch_model");
        models::take_vae_weights(*vae_, weights);
        weights.finish();
        add_weights("vae", weights, "; " + std::to_string(vae_->latent_channels) + " channels");
    }

    void text_encoder(const fs::path& directory) {
        text_encoder_ = models::T5Config::from_file(directory / "config.json");
        InspectedWeights weights(directory, "model");
        const models::T5Encoder checked(*text_encoder_, weights);
        add_weights("text_encoder", weights,
                    "; " + std::to_string(text_encoder_->num_layers) + " blocks of width " +
                        std::to_string(text_encoder_->d_model));
    }

    void tokenizer(const fs::path& directory) {
#ifdef MATRIX_WITH_ENCODERS
        const text::T5Tokenizer checked(directory);
        add("tokenizer", std::to_string(kTokenIds) + " tokens", {{"tokens", kTokenIds}});
#else
        report_.notes.push_back(directory.string() +
                                ": not looked at, this program was built without a tokenizer");
#endif
    }

    void scheduler(const fs::path& directory) {
        const auto config =
            diffusion::SchedulerConfig::from_file(directory / "scheduler_config.json");
        const diffusion::NoiseSchedule checked(config);
        add("scheduler",
            config.class_name + ", " + std::to_string(checked.num_timesteps()) + " timesteps",
            {{"class", config.class_name}, {"timesteps", checked.num_timesteps()}});
    }

    void expect_equal(const std::string& field, std::int64_t has, std::int64_t want,
                      const std::string& whose) {
        if (has != want) {
            report_.faults.push_back((model_ / field).string() + " is " + std::to_string(has) +
                                     ", but " + whose + " is " + std::to_string(want) +
                                     "; the components are not of one model");
        }
    }

    void compare() {
        if (transformer_ && vae_) {
            expect_equal("vae/config.json: latent_channels", vae_->latent_channels,
                         transformer_->out_channels, "the transformer's out_channels");
            expect_equal("vae/config.json: temporal_compression_ratio",
                         vae_->temporal_compression_ratio, transformer_->temporal_compression_ratio,
                         "the transformer's");
        }
        if (transformer_ && text_encoder_) {
            expect_equal("text_encoder/config.json: d_model", text_encoder_->d_model,
                         transformer_->text_embed_dim, "the transformer's text_embed_dim");
        }
        if (text_encoder_ && text_encoder_->vocab_size < kTokenIds) {
            report_.faults.push_back((model_ / "text_encoder/config.json").string() +
                                     ": vocab_size: " + std::to_string(text_encoder_->vocab_size) +
                                     " is less than the tokenizer's " + std::to_string(kTokenIds));
        }
        if (transformer_) {
            check_inputs();
        }
    }

    void check_inputs() {
        const fs::path file = model_ / "transformer/config.json";
        const std::int64_t channels = transformer_->in_channels;
        const std::int64_t latents = transformer_->out_channels;
        if (channels != 2 * latents && channels != 3 * latents) {
            report_.faults.push_back(file.string() + ": in_channels: " + std::to_string(channels) +
                                     "; an image-to-video model has " +
                                     std::to_string(2 * latents) + ", with an ID map " +
                                     std::to_string(3 * latents));
        }
        if (transformer_->has_position_table() &&
            transformer_->max_text_seq_length != text::kMaxTokens) {
            report_.faults.push_back(
                file.string() +
                ": max_text_seq_length: " + std::to_string(transformer_->max_text_seq_length) +
                "; prompts are encoded to " + std::to_string(text::kMaxTokens) + " tokens");
        }
    }

    fs::path model_;
    Report report_;
    std::optional<models::CogVideoXConfig> transformer_;
    std::optional<models::VaeConfig> vae_;
    std::optional<models::T5Config> text_encoder_;
};

}  // namespace

Report check_model(const fs::path& model) {
    if (!fs::is_directory(model)) {
        throw RunError(model.string() + ": no such directory");
    }
    Report report = ModelCheck(model).run();
    report.facts["path"] = model.string();
    return report;
}

}  // namespace matrix::cli::check
