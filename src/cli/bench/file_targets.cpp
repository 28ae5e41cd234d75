#include <ATen/ATen.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "cli/bench/targets.h"
#include "cli/bench/training.h"
#include "cli/init/model_maker.h"
#include "matrix/core/error.h"
#include "matrix/models/t5.h"
#include "matrix/models/vae.h"
#include "matrix/tensor_io/weights.h"
#include "matrix/train/batch_stream.h"

namespace matrix::cli::bench {
namespace {

namespace fs = std::filesystem;

/// A directory with the preset's configurations that goes with the object.
class PresetDirectory {
public:
    explicit PresetDirectory(const Request& request) {
        if (request.preset.empty()) {
            throw UsageError("bench: --preset is required");
        }
        const ModelFiles files = model_files(request.preset);
        std::string name = (fs::temp_directory_path() / "matrix-bench-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) {
            throw RunError(name + ": the directory cannot be made");
        }
        path_ = name;
        write_configs(files, path_);
    }
    ~PresetDirectory() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    PresetDirectory(const PresetDirectory&) = delete;
    PresetDirectory& operator=(const PresetDirectory&) = delete;

    [[nodiscard]] const fs::path& path() const { return path_; }

private:
    fs::path path_;
};

/// Values of a size that neither grows nor dies on the way through a network.
at::Tensor any_weight(at::IntArrayRef shape) {
    const at::Tensor values = at::randn(shape);
    return shape.size() == 1 ? values * 0.1
                             : values / std::sqrt(static_cast<double>(values.numel()) /
                                                  static_cast<double>(shape[0]));
}

}  // namespace

Work prepare_vae(const Request& request) {
    const PresetDirectory directory(request);
    const auto config = models::VaeConfig::from_file(directory.path() / "vae/config.json");
    const at::TensorOptions options = at::TensorOptions(request.device()).dtype(request.dtype());
    tensor_io::GeneratedWeights weights([&](const std::string&, at::IntArrayRef shape) {
        return any_weight(shape).to(request.device(), request.dtype());
    });
    const auto encoder = std::make_shared<models::VaeEncoder>(config, weights);
    const auto decoder = std::make_shared<models::VaeDecoder>(config, weights);
    const std::int64_t frames = 4 * (preset_shape(request.preset).frames - 1) + 1;
    const at::Tensor video =
        at::rand({1, 3, frames, config.sample_height, config.sample_width}, options) * 2 - 1;
    return {[=] {
                const at::Tensor moments = encoder->encode(video);
                static_cast<void>(decoder->decode(moments.narrow(1, 0, config.latent_channels)));
            },
            {{"frames", frames}, {"height", config.sample_height}, {"width", config.sample_width}}};
}

Work prepare_t5(const Request& request) {
    const PresetDirectory directory(request);
    const auto config = models::T5Config::from_file(directory.path() / "text_encoder/config.json");
    tensor_io::GeneratedWeights weights(
        [&, make = random_text_encoder(config, request.seed, request.dtype())](
            const std::string& key, at::IntArrayRef shape) {
            return make(key, shape).to(request.device());
        });
    const auto encoder = std::make_shared<models::T5Encoder>(config, weights);
    const std::int64_t length = preset_shape(request.preset).text;
    const at::Tensor ids = at::randint(config.vocab_size, {1, length},
                                       at::TensorOptions(request.device()).dtype(at::kLong));
    return {[=] { static_cast<void>(encoder->forward(ids)); }, {{"tokens", length}}};
}

Work prepare_load(const Request& request) {
    const auto directory = std::make_shared<PresetDirectory>(request);
    const Shape shape = preset_shape(request.preset);
    tensor_io::TensorMap tensors;
    static_cast<void>(random_model(shape, request.seed, request.dtype(), at::kCPU, &tensors));
    const fs::path file = directory->path() / "transformer/diffusion_pytorch_model.safetensors";
    tensor_io::write_safetensors(file, tensors, {{"format", "pt"}});
    return {[=, dtype = request.dtype(), device = request.device()] {
                static_cast<void>(models::load_cogvideox(directory->path(), dtype, device));
            },
            {{"preset", request.preset}},
            static_cast<std::int64_t>(fs::file_size(file))};
}

namespace {

/// Encoded clips of one shape in memory.
class RandomClips final : public data_cache::SampleSource {
public:
    explicit RandomClips(const Shape& shape, std::uint64_t seed) {
        const train::Batch batch = random_batch(shape, 1, seed, true);
        const auto moments = [](std::int64_t frames, std::int64_t height, std::int64_t width) {
            constexpr std::int64_t kMoments = 32;
            return at::randn({kMoments, frames, height, width});
        };
        sample_.name = "random";
        sample_.video_moments = moments(shape.frames, shape.height, shape.width);
        sample_.image_moments = moments(1, shape.height, shape.width);
        sample_.prompt = batch.encoder_hidden_states[0];
        sample_.token_mask = batch.supervision.token_mask[0];
        sample_.query_mask = batch.supervision.query_mask[0];
        sample_.masks = batch.supervision.masks[0];
    }
    [[nodiscard]] std::int64_t size() const override { return 1; }
    [[nodiscard]] std::string fingerprint() const override { return "random"; }
    [[nodiscard]] data_cache::EncodedSample get(std::int64_t, std::uint64_t,
                                                std::uint64_t) const override {
        return sample_;
    }
    [[nodiscard]] at::Tensor empty_prompt() const override { return sample_.prompt; }

private:
    data_cache::EncodedSample sample_;
};

std::int64_t bytes_of(const train::Batch& batch) {
    std::int64_t bytes = 0;
    for (const at::Tensor& tensor :
         {batch.latents, batch.noise, batch.image_latents, batch.encoder_hidden_states,
          batch.supervision.token_mask, batch.supervision.query_mask, batch.supervision.masks}) {
        bytes += static_cast<std::int64_t>(tensor.nbytes());
    }
    return bytes;
}

}  // namespace

Work prepare_data(const Request& request) {
    const Shape shape = request.shape();
    train::SampleShare share;
    share.batch_size = request.batch;
    train::BatchRules rules;
    rules.seed = request.seed;
    const auto clips = std::make_shared<RandomClips>(shape, request.seed);
    const auto stream = std::make_shared<train::BatchStream>(*clips, rules, share, 0);
    const std::int64_t bytes = bytes_of(stream->next());
    return {[clips, stream] { static_cast<void>(stream->next()); },
            {{"shape", shape.json()}, {"batch", request.batch}},
            bytes};
}

}  // namespace matrix::cli::bench
