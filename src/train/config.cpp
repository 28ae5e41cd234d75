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
             "What a step does whose loss or gradient is not finite: stop the run, or leave the "
             "weights and go on.")
        .one_of({"stop", "skip"});
    return table;
}

FieldTable fields(MemoryConfig& c) {
    FieldTable table;
    table.add("checkpointing", c.checkpointing,
              "true: a block keeps its input, attention output and log-sum-exp and runs the rest "
              "again in backward; "
              "false: everything a backward needs is kept.");
    table
        .add("activation_budget_gib", c.activation_budget_gib,
             "Memory for kept activations; null: the policy alone decides.")
        .above(0);
    table.add("device_budget_gib", c.device_budget_gib, "Device memory the run may take.")
        .above(0)
        .null_word("auto");
    table.add("base", c.base, "Where the frozen base weights live.").one_of({"resident"});
    return table;
}

FieldTable fields(ParallelConfig& c) {
    FieldTable table;
    table.add("backend", c.backend, "Collectives between processes.").one_of({"auto"});
    table.add("shard_base", c.shard_base, "Keep a share of the frozen base on each rank.");
    table.add("context", c.context, "Ranks that share one clip's sequence.").range(1, 1024);
    return table;
}

FieldTable fields(CheckpointConfig& c) {
    FieldTable table;
    table
        .add("every_steps", c.every_steps,
             "Steps between checkpoints; 0: only at the end and on a signal.")
        .range(0);
    table.add("keep_last", c.keep_last, "Checkpoints kept; older ones are deleted.").range(1, 1e6);
    return table;
}

FieldTable fields(ValidationConfig& c) {
    FieldTable table;
    table
        .add("every_steps", c.every_steps,
             "Steps between validations (held-out loss and attention scores); 0: never.")
        .range(0);
    table.add(
        "data", c.data,
        "Held-out data set, in the training data's layout; null: training clips alone are scored.");
    return table;
}

}  // namespace matrix::train
