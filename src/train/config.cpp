#include "matrix/train/config.h"

namespace matrix::train {

FieldTable fields(OptimizerConfig& c) {
    FieldTable table;
    table
        .add("learning_rate", c.learning_rate,
             "Peak learning rate of the LoRA factors and the input projection.")
        .above(0, 10);
    table.add("betas", c.betas, "AdamW's decay rates of the first and second moment.")
        .range(0, 0.999999)
        .length(2);
    table.add("eps", c.eps, "AdamW's denominator offset.").above(0, 1);
    table.add("weight_decay", c.weight_decay, "Decoupled weight decay.").range(0, 1);
    table
        .add("max_grad_norm", c.max_grad_norm,
             "Global gradient norm is clipped to this; 0 switches clipping off.")
        .range(0);
    return table;
}

FieldTable fields(ScheduleConfig& c) {
    FieldTable table;
    table.add("name", c.name, "Course of the learning rate after warm-up.")
        .one_of({"constant", "linear", "cosine"});
    table
        .add("warmup_steps", c.warmup_steps,
             "Steps over which the learning rate rises linearly from 0.")
        .range(0);
    return table;
}

FieldTable fields(TrainConfig& c) {
    FieldTable table;
    table.add("steps", c.steps, "Optimizer steps of the whole run (paper: 4000).").range(1, 1e9);
    table.add("batch_size", c.batch_size, "Clips a rank runs at once.").range(1, 4096);
    table
        .add("gradient_accumulation", c.gradient_accumulation,
             "Batches a rank runs before one optimizer step.")
        .range(1, 1 << 20);
    table
        .add("seed", c.seed,
             "Seed of every random draw: with the sample number it determines the run.")
        .range(0);
    table
        .add("non_finite", c.non_finite,
             "What happens where a step's loss or gradient is not finite: stop the run; leave the "
             "weights as they are and go on; or go back to the last checkpoint and leave out the "
             "step's clips on the way.")
        .one_of({"stop", "skip", "rollback"});
    return table;
}

// More than any machine has; its bytes are a 64-bit number.
constexpr double kMostGib = 1e6;

FieldTable fields(MemoryConfig& c) {
    FieldTable table;
    table.add(
        "checkpointing", c.checkpointing,
        "Without a budget: true: a block keeps its input, attention's output and log-sum-exp, "
        "and runs the rest again in backward, but for the last block, whose backward comes at "
        "once; false: it keeps every product, and runs norms, rotation and GELU again.");
    table
        .add(
            "activation_budget_gib", c.activation_budget_gib,
            "Device memory for what blocks keep from forward to backward: as much is kept as fits, "
            "and of blocks for which it does not, input and attention's output go to the host's "
            "memory and come back for their backward.")
        .above(0, kMostGib);
    table
        .add(
            "device_budget_gib", c.device_budget_gib,
            "Memory that the run may take on its device: as much is kept there as fits, the host's "
            "memory takes what activation_budget_gib says, and a base of \"auto\" is streamed "
            "where that is not enough. \"auto\": on a GPU what is free there less 1 GiB; on a CPU "
            "no budget.")
        .above(0, kMostGib)
        .null_word("auto");
    table
        .add("base", c.base,
             "Where the frozen blocks live: on the device; in the host's memory, from where they "
             "are copied while others run; or on the device as float8_e4m3fn, widened when they "
             "run unless fp8_matmul multiplies by them. \"auto\": resident, or streamed where "
             "device_budget_gib asks for it.")
        .one_of({"auto", "resident", "streamed", "fp8"});
    table.add("fp8_matmul", c.fp8_matmul,
              "With base \"fp8\": the blocks' attention projections and feed-forwards multiply "
              "float8 by float8, activations row by row as the weights. Forward alone: low-rank "
              "deltas and gradients keep model.dtype.");
    return table;
}

FieldTable fields(ParallelConfig& c) {
    FieldTable table;
    table
        .add("backend", c.backend,
             "Exchanges between processes: nccl on GPUs, gloo on CPUs; \"auto\" by model.device.")
        .one_of({"auto", "gloo", "nccl"});
    table.add("shard_base", c.shard_base, "Keep a share of the frozen base on each rank.");
    table.add("context", c.context, "Ranks that share one clip's sequence.").range(1, 1024);
    table
        .add("timeout_seconds", c.timeout_seconds,
             "How long ranks wait for one that is late before the run ends and names it.")
        .range(1, 86400);
    table
        .add("verify_every_steps", c.verify_every_steps,
             "Steps between checks that all ranks hold the same trained tensors.")
        .range(1);
    return table;
}

FieldTable fields(CheckpointConfig& c) {
    FieldTable table;
    table
        .add("every_steps", c.every_steps,
             "Steps between checkpoints; 0: only at the end and on a signal.")
        .range(0);
    table.add("keep_last", c.keep_last, "Checkpoints kept; older ones are deleted.").range(1, 1e6);
    table
        .add("best_metric", c.best_metric,
             "Validation score (of the held-out clips, where there are any) whose best checkpoint "
             "is kept too, however old; null: none.")
        .one_of({"loss_denoise", "auc_v2t", "bind_v2t", "enrich_v2t", "auc_v2v", "enrich_v2v"});
    return table;
}

namespace {

FieldTable fields(SamplesConfig& c) {
    FieldTable table;
    table
        .add("every_steps", c.every_steps,
             "Steps between videos of the first clips, without and with the adapter; 0: never.")
        .range(0);
    table.add("clips", c.clips, "How many clips, held-out ones where there are any.").range(1, 64);
    table.add("steps", c.steps, "Denoising steps (DDIM) of a video.").range(1, 1000);
    table
        .add("guidance_scale", c.guidance_scale, "Scale of classifier-free guidance; none up to 1.")
        .range(-1000, 1000);
    return table;
}

}  // namespace

FieldTable fields(ValidationConfig& c) {
    FieldTable table;
    table
        .add("every_steps", c.every_steps,
             "Steps between validations (held-out loss and attention scores); 0: never.")
        .range(0);
    table.add(
        "data", c.data,
        "Held-out data set, in the training data's layout; null: training clips alone are scored.");
    table.add_section("samples", fields(c.samples),
                      "Videos on the way, in the run directory's samples/.");
    FieldTable overlays;
    overlays
        .add("every_steps", c.overlays.every_steps,
             "Steps between attention overlays, in the run directory's pictures/ and in "
             "TensorBoard; 0: before the first and after the last step alone.")
        .range(0);
    table.add_section("overlays", std::move(overlays),
                      "The supervised blocks' attention over the frames of two held-out clips "
                      "(training clips, where there are none), beside their mask tracks.");
    return table;
}

std::vector<std::string> check(const TrainConfig& train, const CheckpointConfig& checkpoint,
                               const ValidationConfig& validation,
                               const alignment::AlignmentConfig& alignment) {
    std::vector<std::string> faults;
    if (train.non_finite == "rollback" && checkpoint.every_steps == 0) {
        faults.emplace_back(
            "train.non_finite: \"rollback\" goes back to a checkpoint, and checkpoint.every_steps "
            "= "
            "0 writes none on the way; set it, or choose \"stop\" or \"skip\"");
    }
    if (!checkpoint.best_metric) {
        return faults;
    }
    const std::string& metric = *checkpoint.best_metric;
    const std::string prefix = "checkpoint.best_metric: \"" + metric + "\" is a score of ";
    if (validation.every_steps == 0) {
        faults.push_back(prefix +
                         "validation, which validation.every_steps = 0 switches off; set it, or "
                         "checkpoint.best_metric to null");
    }
    const auto want = [&](const char* direction, bool there, const std::string& term) {
        if (metric.ends_with(direction) && !there) {
            faults.push_back(prefix + "alignment." + term +
                             ", which is null; choose another score, or switch the term on");
        }
    };
    want("_v2t", alignment.sga.has_value(), "sga");
    want("_v2v", alignment.spa.has_value(), "spa");
    return faults;
}

}  // namespace matrix::train
