#include "cli/memory/plan.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <numeric>
#include <utility>

#include "cli/memory/counts.h"
#include "matrix/core/error.h"

namespace matrix::cli {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
constexpr std::int64_t kFloatBytes = 4;
constexpr std::int64_t kAdamCopies = 4;              ///< value, gradient, two moments
constexpr std::int64_t kContextBytes = 512ll << 20;  ///< device context and kernels' workspaces
constexpr std::int64_t kRounding = 25;               ///< the allocator's: a twenty-fifth
constexpr const char* kHeadroom = "headroom";

std::string format(const char* pattern, auto... values) {
    char text[512];
    std::snprintf(text, sizeof text, pattern, values...);
    return text;
}

double gib(std::int64_t bytes) {
    return static_cast<double>(bytes) / kGib;
}

std::int64_t bytes_of(double gib) {
    return static_cast<std::int64_t>(gib * kGib);
}

long long number(std::int64_t value) {
    return value;
}

/// A base and what blocks keep.
struct Choice {
    std::string base;
    models::Activations activations;
};

/// Everything that decides it.
class Planner {
public:
    Planner(const RunConfig& run, std::int64_t num_ranks, const models::CogVideoXConfig& model)
        : config(run),
          sizes(sizes_of(run, model)),
          base(model),
          trained(run, model),
          beside(run, model, sizes),
          blocks(blocks_with_backward(run, model)),
          block(block_sizes(run, sizes, blocks)),
          sharing_ranks(run.parallel.shard_base ? num_ranks : 1) {}

    /// UsageError, with what would fit, if nothing does.
    [[nodiscard]] Choice choose(std::optional<std::int64_t> budget) const {
        const bool free = config.memory.base == "auto";
        const std::string first = free ? "resident" : config.memory.base;
        std::optional<Choice> choice = best(first, budget);
        const bool fits_well = choice && attention_runs_once(*choice);
        if (free && budget && sharing_ranks == 1 && !fits_well) {
            if (std::optional<Choice> streamed = best("streamed", budget)) {
                choice = std::move(streamed);
            }
        }
        if (!choice) {
            refuse(first, budget);
        }
        return *choice;
    }

    [[nodiscard]] std::int64_t base_bytes(const std::string& where) const {
        return base.bytes(where, sizes.dtype_bytes, sharing_ranks);
    }
    [[nodiscard]] std::int64_t widened_bytes(const std::string& where) const {
        return base.widened_bytes(where, config.memory.fp8_matmul, sizes.dtype_bytes);
    }
    /// Of blocks that rest in the host's memory.
    [[nodiscard]] std::int64_t host_base_bytes(const std::string& where) const {
        return where == "streamed" ? base.in_blocks * sizes.dtype_bytes : 0;
    }
    /// Beside what is kept: in the backward of a block or, before it, in the heads and at the
    /// model's end, whichever is more.
    [[nodiscard]] std::int64_t working_bytes(const Choice& choice) const {
        const models::Activations& activations = choice.activations;
        return std::max(activations.peak - activations.kept + widened_bytes(choice.base),
                        beside.ends + beside.alignment);
    }

    const RunConfig& config;
    Sizes sizes;
    BaseWeights base;
    Trained trained;
    Beside beside;
    std::int64_t blocks;
    models::BlockSizes block;
    std::int64_t sharing_ranks;

private:
    static bool attention_runs_once(const Choice& choice) {
        const std::vector<nn::Keep>& keep = choice.activations.keep;
        return std::find(keep.begin(), keep.end(), nn::Keep::kInput) == keep.end();
    }

    /// Of all but what blocks take.
    [[nodiscard]] std::int64_t fixed_bytes(const std::string& where) const {
        return base_bytes(where) + trained.elements() * kFloatBytes * kAdamCopies + beside.readout +
               beside.vae + beside.batch;
    }

    [[nodiscard]] models::Activations everywhere(nn::Keep keep) const {
        return models::Activations::of(models::every_block(keep, blocks), block);
    }

    /// The most that can be kept within the budgets; without one, what memory.checkpointing says.
    [[nodiscard]] std::optional<Choice> best(const std::string& where,
                                             std::optional<std::int64_t> budget) const {
        const auto& kept_gib = config.memory.activation_budget_gib;
        const std::int64_t widened = widened_bytes(where), ends = beside.ends + beside.alignment;
        if (!budget && !kept_gib) {
            const models::Activations all = everywhere(
                config.memory.checkpointing ? nn::Keep::kAttention : nn::Keep::kProducts);
            const std::int64_t most = std::max(all.peak + widened, all.kept + ends);
            return Choice{where, models::raise_last(all, block, most - ends, most - widened)};
        }
        std::int64_t kept = std::numeric_limits<std::int64_t>::max(), peak = kept;
        if (kept_gib) {
            kept = bytes_of(*kept_gib);
        }
        if (budget) {
            const std::int64_t rest =
                (*budget - kContextBytes) * kRounding / (kRounding + 1) - fixed_bytes(where);
            peak = rest - widened;
            kept = std::min(kept, rest - ends);
        }
        const auto found = models::keep_within(blocks, block, kept, peak);
        return found ? std::optional(Choice{where, models::raise_last(*found, block, kept, peak)})
                     : std::nullopt;
    }

    /// Of the whole run when blocks keep the least, headroom included.
    [[nodiscard]] std::int64_t least_bytes(const std::string& where) const {
        const auto tensors = [&](nn::Keep keep) {
            const Choice choice{where, everywhere(keep)};
            return fixed_bytes(where) + choice.activations.kept + working_bytes(choice);
        };
        const std::int64_t least =
            std::min(tensors(nn::Keep::kInput), tensors(nn::Keep::kOffloaded));
        return least + kContextBytes + least / kRounding;
    }

    [[noreturn]] void refuse(const std::string& where, std::optional<std::int64_t> budget) const {
        const std::int64_t least =
            std::min(everywhere(nn::Keep::kInput).kept, everywhere(nn::Keep::kOffloaded).kept);
        const auto& kept_gib = config.memory.activation_budget_gib;
        if (kept_gib && bytes_of(*kept_gib) < least) {
            throw UsageError(
                format("memory.activation_budget_gib: %.2f does not hold what %lld blocks keep on "
                       "the device when most of it is offloaded; set at least %.2f",
                       *kept_gib, number(blocks), gib(least) + 0.005));
        }
        std::string text = format("memory.device_budget_gib: the run does not fit %.2f GiB; ",
                                  gib(budget.value_or(0)));
        const std::int64_t here = least_bytes(where), streamed = least_bytes("streamed");
        text += format("memory.base = %s takes at least %.2f", where.c_str(), gib(here) + 0.005);
        if (sharing_ranks == 1 && streamed < here) {
            text += format(", streamed %.2f", gib(streamed) + 0.005);
        }
        throw UsageError(text + "; fewer data.frames or a smaller size take less");
    }
};

const char* name_of(nn::Keep keep) {
    switch (keep) {
        case nn::Keep::kInput:
            return "their input";
        case nn::Keep::kOffloaded:
            return "log-sum-exp, and in the host's memory input and attention output";
        case nn::Keep::kAttention:
            return "input, attention output, log-sum-exp";
        case nn::Keep::kRows:
            return "all products but GELU's input";
        case nn::Keep::kProducts:
        case nn::Keep::kGraph:
            break;
    }
    return "every product";
}

/// "12 blocks keep their input; 30 blocks keep every product".
std::string policy_text(const std::vector<nn::Keep>& keep) {
    std::string text;
    for (std::size_t begin = 0; begin < keep.size();) {
        std::size_t end = begin;
        while (end < keep.size() && keep[end] == keep[begin]) {
            ++end;
        }
        text += format("%s%zu %s %s", begin == 0 ? "" : "; ", end - begin,
                       end - begin == 1 ? "block keeps" : "blocks keep", name_of(keep[begin]));
        begin = end;
    }
    return text;
}

std::string base_text(const Planner& planner, const std::string& where) {
    std::string text = format("%.3f billion frozen parameters, %s",
                              static_cast<double>(planner.base.elements) / 1e9,
                              planner.config.model.dtype.c_str());
    if (planner.sharing_ranks > 1) {
        text += format(", blocks shared by %lld ranks", number(planner.sharing_ranks));
    } else if (where == "streamed") {
        text += ", blocks streamed from the host's memory";
    } else if (where == "fp8") {
        text += ", blocks at rest in float8";
        text += planner.config.memory.fp8_matmul ? " and multiplied in it" : "";
    }
    return text;
}

void add_items(MemoryPlan& plan, const Planner& planner, const Choice& choice) {
    const Trained& trained = planner.trained;
    const Beside& beside = planner.beside;
    const models::Activations& activations = choice.activations;
    const auto add = [&](const char* name, std::string what, std::int64_t bytes) {
        if (bytes > 0) {
            plan.items.push_back({name, std::move(what), bytes});
        }
    };
    add("weights", base_text(planner, choice.base), planner.base_bytes(choice.base));
    add("trained",
        format("%.2f million in LoRA, %.2f in the input projection, %.2f in the heads, float32",
               static_cast<double>(trained.lora) / 1e6,
               static_cast<double>(trained.projection) / 1e6,
               static_cast<double>(trained.heads) / 1e6),
        trained.elements() * kFloatBytes);
    add("optimizer", "gradients and AdamW's two moments, float32",
        trained.elements() * kFloatBytes * (kAdamCopies - 1));
    add("batch", "latents, noise, prompts and masks of a step", beside.batch);
    add("activations", policy_text(activations.keep), activations.kept);
    add("ends", "rows after the last block, until its backward", beside.ends);
    add("alignment", "mask heads and losses, one entity at a time, before the backward",
        beside.alignment);
    add("backward",
        activations.offloaded > 0
            ? "one block at a time, beyond what the ends and the heads have left, and what comes "
              "back for the next"
            : "one block at a time, beyond what the ends and the heads have left",
        planner.working_bytes(choice) - beside.ends - beside.alignment);
    add("readout", "gradient of the probabilities, one block at a time", beside.readout);
    add("vae", "data.cache = null encodes beside the step", beside.vae);
    add(kHeadroom, "device context, workspaces, 4 % for the allocator's rounding",
        kContextBytes + plan.total_bytes() / kRounding);
}

/// The encoders, where they are: who trains from a copied cache needs none.
void add_encoder_notes(MemoryPlan& plan, const RunConfig& config) {
    if (const std::int64_t text = text_encoder_bytes(config); text > 0) {
        plan.notes.push_back(
            format("before training: text encoder, %.2f GiB of weights", gib(text)));
    }
    if (config.data.cache) {
        plan.notes.push_back(
            format("before training, after the text encoder: VAE, %.2f GiB of weights",
                   gib(vae_bytes(config))));
    }
}

void add_notes(MemoryPlan& plan, const Planner& planner, std::int64_t num_ranks) {
    const Sizes& s = planner.sizes;
    plan.notes.push_back(format("sequence: %lld text + %lld video rows of width %lld, batch %lld",
                                number(s.text_rows), number(s.tokens), number(s.width),
                                number(s.batch)));
    if (plan.host_weights + plan.host_activations > 0) {
        plan.notes.push_back(format(
            "in the host's memory, page-locked for a GPU: %.2f GiB of weights, %.2f of activations",
            gib(plan.host_weights), gib(plan.host_activations)));
    }
    if (planner.config.parallel.shard_base && num_ranks == 1) {
        plan.notes.emplace_back(
            "parallel.shard_base: counted for one process, which shares with nobody; start "
            "--dry-run as the run will be");
    }
}

}  // namespace

std::int64_t MemoryPlan::total_bytes() const {
    return std::accumulate(items.begin(), items.end(), std::int64_t{0},
                           [](std::int64_t sum, const Item& item) { return sum + item.bytes; });
}

std::int64_t MemoryPlan::tensor_bytes() const {
    return std::accumulate(items.begin(), items.end(), std::int64_t{0},
                           [](std::int64_t sum, const Item& item) {
                               return item.name == kHeadroom ? sum : sum + item.bytes;
                           });
}

std::string MemoryPlan::summary() const {
    return "memory: " + gib_text(tensor_bytes()) + " of tensors planned, " +
           gib_text(total_bytes()) + " with headroom; base " + base +
           (policy.empty() ? "" : "; " + policy) +
           (host_activations > 0
                ? "; " + gib_text(host_activations) + " of activations in the host's memory"
                : "");
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

std::string gib_text(std::int64_t bytes) {
    return format("%.2f GiB", gib(bytes));
}

std::int64_t MemoryPlan::bytes_of(const std::string& item) const {
    const auto found = std::find_if(items.begin(), items.end(),
                                    [&](const Item& candidate) { return candidate.name == item; });
    return found == items.end() ? 0 : found->bytes;
}

std::unique_ptr<models::BlockWeights> blocks_at(const MemoryPlan& plan) {
    using Use = models::Fp8Use;
    return plan.base == "streamed" ? models::streamed_blocks()
           : plan.base == "fp8" ? models::fp8_blocks(plan.fp8_matmul ? Use::kAtRest : Use::kWidened)
                                : models::resident_blocks();
}

MemoryPlan memory_plan(const RunConfig& config, std::int64_t num_ranks,
                       std::optional<std::int64_t> free_bytes) {
    const auto model = models::CogVideoXConfig::from_file(std::filesystem::path(config.model.path) /
                                                          "transformer" / "config.json");
    MemoryPlan plan = memory_plan(config, model, num_ranks, free_bytes);
    add_encoder_notes(plan, config);
    return plan;
}

MemoryPlan memory_plan(const RunConfig& config, const models::CogVideoXConfig& model,
                       std::int64_t num_ranks, std::optional<std::int64_t> free_bytes) {
    const Planner planner(config, num_ranks, model);
    std::optional<std::int64_t> budget = free_bytes;
    if (config.memory.device_budget_gib) {
        budget = bytes_of(*config.memory.device_budget_gib);
    }
    const Choice choice = planner.choose(budget);

    MemoryPlan plan;
    plan.base = choice.base;
    plan.fp8_matmul = config.memory.fp8_matmul;
    plan.policy = policy_text(choice.activations.keep);
    // Blocks below the lowest that trains keep nothing, whatever stands there.
    plan.keep.assign(static_cast<std::size_t>(model.num_layers - planner.blocks),
                     nn::Keep::kAttention);
    plan.keep.insert(plan.keep.end(), choice.activations.keep.begin(),
                     choice.activations.keep.end());
    add_items(plan, planner, choice);
    plan.host_weights = planner.host_base_bytes(choice.base);
    plan.host_activations = choice.activations.offloaded;
    add_notes(plan, planner, num_ranks);
    return plan;
}

}  // namespace matrix::cli
