#include "cli/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <numeric>

#include "matrix/alignment/objective.h"
#include "matrix/kernels/feed_forward.h"
#include "matrix/models/cogvideox.h"
#include "matrix/models/t5.h"
#include "matrix/models/vae.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kFloatBytes = 4;
constexpr std::int64_t kAdamCopies = 4;              ///< value, gradient, two moments
constexpr std::int64_t kContextBytes = 512ll << 20;  ///< device context and kernels' workspaces
constexpr std::int64_t kHeadBuffers =
    6;  ///< full-resolution float32 buffers of one entity's loss and backward

double gib(std::int64_t bytes) {
    return static_cast<double>(bytes) / (1ll << 30);
}

std::string format(const char* pattern, auto... values) {
    char text[256];
    std::snprintf(text, sizeof text, pattern, values...);
    return text;
}

/// Sizes of one step of the run on one rank.
struct Sizes {
    std::int64_t batch, frames, text_rows, tokens, width, heads, dtype_bytes, context;
    [[nodiscard]] std::int64_t rows() const {
        return batch * ((text_rows + tokens + context - 1) / context);
    }
    /// One tensor [B, S, D], or of the rank's share of the rows.
    [[nodiscard]] std::int64_t unit() const { return rows() * width * dtype_bytes; }
    [[nodiscard]] std::int64_t log_sum_exp() const { return rows() * heads * kFloatBytes; }
};

Sizes sizes_of(const RunConfig& config, const models::CogVideoXConfig& model) {
    Sizes s{};
    s.batch = config.train.batch_size;
    s.frames = (config.data.frames - 1) / model.temporal_compression_ratio + 1;
    const std::int64_t temporal = model.patch_size_t.value_or(1);
    s.tokens =
        (s.frames + temporal - 1) / temporal * (config.data.height / 16) * (config.data.width / 16);
    s.text_rows = model.max_text_seq_length;
    s.width = model.width();
    s.heads = model.num_attention_heads;
    s.dtype_bytes = config.model.dtype == "float32" ? 4 : 2;
    s.context = config.parallel.context;
    return s;
}

std::int64_t lora_elements(const RunConfig& config, const models::CogVideoXConfig& model,
                           std::int64_t projection_in) {
    const auto linears =
        static_cast<std::int64_t>(config.lora.blocks.size() * config.lora.targets.size());
    std::int64_t elements = linears * config.lora.rank * 2 * model.width();
    if (config.lora.input_projection == "lora") {
        elements += config.lora.rank * (projection_in + model.width());
    }
    return elements;
}

std::int64_t head_elements(const RunConfig& config) {
    std::int64_t elements = 0;
    for (const auto& [name, tensor] :
         alignment::make_matrix_objective(config.alignment, 0, at::kCPU)->parameters()) {
        elements += tensor.numel();
    }
    return elements;
}

/// Blocks a gradient passes: from the lowest that trains to the last.
std::int64_t blocks_with_backward(const RunConfig& config, const models::CogVideoXConfig& model) {
    if (config.lora.input_projection != "frozen") {
        return model.num_layers;
    }
    if (config.lora.blocks.empty()) {
        return 0;
    }
    return model.num_layers -
           *std::min_element(config.lora.blocks.begin(), config.lora.blocks.end());
}

void add_activations(MemoryPlan& plan, const RunConfig& config,
                     const models::CogVideoXConfig& model, const Sizes& s) {
    const std::int64_t blocks = blocks_with_backward(config, model);
    const auto adapted = static_cast<std::int64_t>(config.lora.blocks.size());
    // What one block holds while it is differentiated: its input, raw and rotated q and k, v,
    // attention output, the row after attention, and the feed-forward's inner buffer, four times as
    // wide; the modulated input too where a delta reads it.
    const std::int64_t whole = 8 * s.unit() + s.log_sum_exp() + 4 * s.unit();
    if (config.memory.checkpointing) {
        plan.items.push_back({"activations",
                              format("%lld blocks keep input, attention output, log-sum-exp",
                                     static_cast<long long>(blocks)),
                              blocks * (2 * s.unit() + s.log_sum_exp())});
        const std::int64_t chunk =
            std::min(s.rows(), kernels::kFeedForwardChunkRows) * 4 * s.width * s.dtype_bytes;
        plan.items.push_back({"recomputation",
                              "one block at a time, its feed-forward in chunks of rows",
                              9 * s.unit() + 3 * chunk});
    } else {
        plan.items.push_back({"activations",
                              format("%lld blocks keep everything", static_cast<long long>(blocks)),
                              blocks * whole + adapted * s.unit()});
        plan.items.push_back({"backward", "gradients of one block", 8 * s.unit()});
    }
}

void add_alignment(MemoryPlan& plan, const RunConfig& config, const Sizes& s) {
    if (!config.alignment.sga && !config.alignment.spa) {
        return;
    }
    const std::int64_t voxels = config.data.frames * config.data.height * config.data.width;
    plan.items.push_back({"alignment", "mask heads and losses, one entity at a time",
                          voxels * kFloatBytes * kHeadBuffers});
    if (config.alignment.readout == "probabilities") {
        // alignment/probability_readout.cpp: float32 gradients of q and k, a second attention's
        // output and the four gradients of its backward.
        plan.items.push_back({"readout", "gradient of the probabilities, one block at a time",
                              2 * s.rows() * s.width * kFloatBytes + 5 * s.unit()});
    }
}

std::int64_t count_elements(const auto& construct) {
    tensor_io::CountingWeights weights;
    construct(weights);
    return weights.num_elements();
}

/// The frozen base. Shared out, a rank holds its share of the blocks and two whole ones: the one
/// that runs and the one that is on its way.
MemoryPlan::Item base_weights(const RunConfig& config, const models::CogVideoXConfig& model,
                              std::int64_t dtype_bytes, std::int64_t num_ranks) {
    tensor_io::CountingWeights weights;
    const models::CogVideoXTransformer transformer(model, weights);
    const std::int64_t all = weights.num_elements();
    std::int64_t in_blocks = 0;
    for (const auto& [key, shape] : weights.shapes()) {
        if (key.starts_with("transformer_blocks.")) {
            in_blocks +=
                std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
        }
    }
    std::string what = format("%.3f billion frozen parameters, %s", static_cast<double>(all) / 1e9,
                              config.model.dtype.c_str());
    std::int64_t held = all;
    if (config.parallel.shard_base && num_ranks > 1) {
        held += in_blocks / num_ranks - in_blocks + 2 * in_blocks / model.num_layers;
        what += format(", blocks shared by %lld ranks", static_cast<long long>(num_ranks));
    }
    return {"weights", what, held * dtype_bytes};
}

/// The encoders, where they are: who trains from a copied cache needs none.
void add_encoders(MemoryPlan& plan, const RunConfig& config, std::int64_t dtype_bytes) {
    const fs::path model = config.model.path;
    const fs::path text_config = model / "text_encoder" / "config.json";
    if (fs::exists(text_config)) {
        const std::int64_t text = count_elements([&](auto& weights) {
            const models::T5Encoder encoder(models::T5Config::from_file(text_config), weights);
        });
        plan.notes.push_back(
            format("before training: text encoder, %.2f GiB of weights", gib(text * dtype_bytes)));
    }
    const std::int64_t vae =
        dtype_bytes * count_elements([&](auto& weights) {
            models::take_vae_weights(models::VaeConfig::from_file(model / "vae" / "config.json"),
                                     weights);
        });
    if (config.data.cache) {
        plan.notes.push_back(
            format("before training, after the text encoder: VAE, %.2f GiB of weights", gib(vae)));
    } else {
        plan.items.push_back({"vae", "data.cache = null encodes beside the step", vae});
    }
}

}  // namespace

std::int64_t MemoryPlan::total_bytes() const {
    return std::accumulate(items.begin(), items.end(), std::int64_t{0},
                           [](std::int64_t sum, const Item& item) { return sum + item.bytes; });
}

std::string MemoryPlan::text() const {
    std::string out = "memory of a training step, counted\n";
    for (const Item& item : items) {
        out += format("  %-16s %8.2f GiB  %s\n", item.name.c_str(), gib(item.bytes),
                      item.what.c_str());
    }
    out += format("  %-16s %8.2f GiB\n", "total", gib(total_bytes()));
    for (const std::string& note : notes) {
        out += "  " + note + "\n";
    }
    return out;
}

MemoryPlan memory_plan(const RunConfig& config, std::int64_t num_ranks) {
    const auto model = models::CogVideoXConfig::from_file(fs::path(config.model.path) /
                                                          "transformer" / "config.json");
    const Sizes s = sizes_of(config, model);
    const std::int64_t channels = config.data.id_map ? 3 * model.out_channels : model.in_channels;
    const std::int64_t projection_in =
        channels * model.patch_size * model.patch_size * model.patch_size_t.value_or(1);
    MemoryPlan plan;
    plan.items.push_back(base_weights(config, model, s.dtype_bytes, num_ranks));
    const std::int64_t lora = lora_elements(config, model, projection_in);
    const std::int64_t projection =
        config.lora.input_projection == "full" ? (projection_in + 1) * model.width() : 0;
    const std::int64_t heads = head_elements(config);
    plan.items.push_back(
        {"trained",
         format("%.2f million in LoRA, %.2f in the input projection, %.2f in the heads, float32",
                static_cast<double>(lora) / 1e6, static_cast<double>(projection) / 1e6,
                static_cast<double>(heads) / 1e6),
         (lora + projection + heads) * kFloatBytes});
    plan.items.push_back({"optimizer", "gradients and AdamW's two moments, float32",
                          (lora + projection + heads) * kFloatBytes * (kAdamCopies - 1)});
    add_activations(plan, config, model, s);
    if (s.context > 1) {
        plan.items.push_back({"sequence",
                              format("all rows at the input and the output, %lld ranks a clip",
                                     static_cast<long long>(s.context)),
                              2 * s.context * s.unit()});
    }
    add_alignment(plan, config, s);
    add_encoders(plan, config, s.dtype_bytes);
    const std::int64_t before_headroom = plan.total_bytes();
    plan.items.push_back({"headroom",
                          "device context, workspaces, 4 % for the allocator's rounding",
                          kContextBytes + before_headroom / 25});
    plan.notes.push_back(format("sequence: %lld text + %lld video rows of width %lld, batch %lld",
                                static_cast<long long>(s.text_rows),
                                static_cast<long long>(s.tokens), static_cast<long long>(s.width),
                                static_cast<long long>(s.batch)));
    if (config.parallel.shard_base && num_ranks == 1) {
        plan.notes.emplace_back(
            "parallel.shard_base: counted for one process, which shares with nobody; start "
            "--dry-run as the run will be");
    }
    return plan;
}

}  // namespace matrix::cli
