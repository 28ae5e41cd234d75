#include <ATen/Context.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/commands.h"
#include "cli/memory/plan.h"
#include "cli/run_config.h"
#include "cli/run_observers.h"
#include "cli/sample_source.h"
#include "matrix/core/device_memory.h"
#include "matrix/core/directory_lock.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "matrix/core/signals.h"
#include "matrix/distributed/collective.h"
#include "matrix/log/log.h"
#include "matrix/lora/start.h"
#include "matrix/models/cogvideox.h"
#include "matrix/models/vae.h"
#include "matrix/pipeline/video_size.h"
#include "matrix/train/checkpoint.h"
#include "matrix/train/config_changes.h"
#include "matrix/train/sharded_blocks.h"
#include "matrix/train/trainer.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;

// A launcher that is stopped, timeout(1) too, passes the signal on to processes that were sent it
// with their group.
constexpr std::chrono::milliseconds kEcho{500};

// Of a GPU's free memory, what a desktop may come to want.
constexpr std::int64_t kDesktopBytes = 1ll << 30;

struct TrainFlags {
    std::string config;
    std::vector<std::string> assignments;
    std::string resume;
    bool dry_run = false;
};

/// One that ended before its first step is none.
bool holds_run(const fs::path& output) {
    std::error_code ignored;
    const auto bytes = fs::file_size(output / "metrics.jsonl", ignored);
    return (!ignored && bytes > 0) || train::has_checkpoints(output);
}

/// The checkpoint to go on from, if any; a run directory that already holds a run is not started
/// over in silence.
std::optional<fs::path> checkpoint_to_resume(const std::string& resume, const fs::path& output) {
    if (resume == "auto") {
        return train::last_checkpoint(output);
    }
    if (!resume.empty()) {
        if (!fs::exists(fs::path(resume) / "state.json")) {
            throw RunError(resume + ": no complete checkpoint (state.json is missing)");
        }
        const fs::path of_output = fs::weakly_canonical(output / "checkpoints");
        if (holds_run(output) &&
            fs::weakly_canonical(fs::path(resume) / ".").parent_path() != of_output) {
            throw UsageError("output: " + output.string() +
                             " already holds another run than that of " + resume +
                             "; choose another directory");
        }
        return fs::path(resume);
    }
    if (holds_run(output)) {
        throw UsageError(
            "output: " + output.string() +
            " already holds a run; go on with --resume auto, or choose another directory");
    }
    return std::nullopt;
}

/// The adapter of lora.init_from, if any. UsageError unless the run can start with it.
std::optional<lora::Adapter> adapter_to_start_from(const RunConfig& config, std::int64_t channels) {
    if (!config.lora.init_from) {
        return std::nullopt;
    }
    lora::Adapter adapter = lora::read_adapter(*config.lora.init_from);
    std::vector<std::string> faults =
        lora::check_start(config.lora, channels, adapter, *config.lora.init_from);
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
    return adapter;
}

/// What the model directory's config files say; no weights.
struct ModelConfigs {
    models::CogVideoXConfig transformer;
    models::VaeConfig vae;
    diffusion::NoiseSchedule schedule;
    std::int64_t channels;  ///< of the run's input
};

/// Reads them and holds the run against them. UsageError with what that shows and the faults that
/// the run has by itself.
ModelConfigs read_model_configs(const RunConfig& config, std::vector<std::string> faults) {
    const fs::path model = config.model.path;
    pipeline::SizeRules found;
    try {
        found = pipeline::read_size_rules(model);
        check_against_model(config, found, faults);
    } catch (const RunError&) {
        if (faults.empty()) {
            throw;
        }
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
    return {found.transformer, found.vae,
            diffusion::NoiseSchedule(diffusion::SchedulerConfig::from_file(
                model / "scheduler" / "scheduler_config.json")),
            input_channels(config, found.transformer)};
}

train::BatchRules batch_rules(const RunConfig& config, const ModelConfigs& found) {
    train::BatchRules rules;
    rules.seed = static_cast<std::uint64_t>(config.train.seed);
    rules.scaling_factor = found.vae.scaling_factor;
    rules.invert_scale_latents = found.vae.invert_scale_latents;
    rules.id_map = config.data.id_map;
    rules.temporal_patch = found.transformer.patch_size_t.value_or(1);
    rules.num_timesteps = found.schedule.num_timesteps();
    rules.image_dropout = config.data.image_dropout;
    rules.caption_dropout = config.data.caption_dropout;
    rules.id_map_dropout = config.data.id_map_dropout;
    return rules;
}

nlohmann::json resolved(RunConfig config) {
    return fields(config).write();
}

/// Where a run writes does not make it another run.
std::string without_output(nlohmann::json config) {
    config.erase("output");
    return config.dump();
}

/// What changed since a checkpoint is said; what makes its tensors others is refused.
void compare_configs(const fs::path& checkpoint, const std::string& now) {
    const std::string before = train::checkpoint_state(checkpoint).config;
    std::vector<std::string> refused = train::unresumable_changes(before, now);
    if (!refused.empty()) {
        for (std::string& line : refused) {
            line.insert(0, checkpoint.string() + ": ");
        }
        throw UsageError(std::move(refused));
    }
    for (const std::string& change : train::config_changes(before, now)) {
        log::info("changed since the checkpoint: " + change);
    }
}

/// Rank 0's view of the run directory: the lock on it, and the checkpoint to go on from.
std::optional<fs::path> open_run(const RunConfig& config, const std::string& resume,
                                 distributed::Communicator& ranks,
                                 std::optional<DirectoryLock>& lock) {
    const fs::path output = config.output;
    const std::string checkpoint = distributed::from_rank_0(
        ranks,
        [&] {
            const auto found = checkpoint_to_resume(resume, output);
            lock.emplace(output, "a run");
            log::open_file(output / "log.txt");
            if (found) {
                compare_configs(*found, without_output(resolved(config)));
            }
            return found ? found->string() : std::string();
        },
        "opening the run directory");
    if (ranks.rank() != 0) {
        log::open_file(output / ("log-rank-" + std::to_string(ranks.rank()) + ".txt"));
    }
    return checkpoint.empty() ? std::nullopt : std::optional<fs::path>(checkpoint);
}

train::RunSettings run_settings(const RunConfig& config, const MemoryPlan& plan) {
    train::RunSettings settings;
    settings.train = config.train;
    settings.optimizer = config.optimizer;
    settings.schedule = config.schedule;
    settings.checkpoint = config.checkpoint;
    settings.head_learning_rate = config.alignment.head_learning_rate;
    settings.keep = plan.keep;
    settings.verify_every_steps = config.parallel.verify_every_steps;
    settings.output = config.output;
    settings.config_text = resolved(config).dump(2) + "\n";
    settings.checkpoint_config = without_output(resolved(config));
    return settings;
}

/// Ranks that saw other clips would draw from other orders without a word.
void check_same_clips(distributed::Communicator& all, const data_cache::SampleSource& samples,
                      const data_cache::SampleSource* held_out) {
    distributed::check_equal(all,
                             {{"clips", samples.fingerprint()},
                              {"held-out clips", held_out ? held_out->fingerprint() : ""}},
                             "comparing clips");
}

void check_world(const RunConfig& config, int world_size) {
    if (world_size % config.parallel.context != 0) {
        throw UsageError("parallel.context: " + std::to_string(world_size) +
                         " processes do not divide into replicas of " +
                         std::to_string(config.parallel.context));
    }
}

std::vector<int> every_rank(const distributed::Communicator& all) {
    std::vector<int> ranks(static_cast<std::size_t>(all.world_size()));
    std::iota(ranks.begin(), ranks.end(), 0);
    return ranks;
}

/// What memory.device_budget_gib = "auto" stands for.
std::optional<std::int64_t> free_for_run(at::Device device) {
    const std::optional<std::int64_t> free = free_bytes(device);
    return free ? std::optional(*free - kDesktopBytes) : std::nullopt;
}

void run_training(const RunConfig& config, const ModelConfigs& found, const std::string& resume,
                  const distributed::Environment& environment) {
    install_stop_signals(kEcho);
    const at::ScalarType dtype = parse_compute_dtype(config.model.dtype, "model.dtype");
    const at::Device device = choose_device(config.model.device, environment.local_rank);
    const auto communicator =
        distributed::make_communicator(environment, config.parallel.backend, device,
                                       std::chrono::seconds(config.parallel.timeout_seconds));
    distributed::Communicator& all = *communicator;

    check_world(config, environment.world_size);
    const MemoryPlan plan = memory_plan(config, environment.world_size, free_for_run(device));
    log::info(plan.summary());

    const std::string text = resolved(config).dump();
    distributed::check_equal(all, {{"configuration", text}}, "comparing configurations");
    std::optional<DirectoryLock> lock;
    const std::optional<fs::path> checkpoint = open_run(config, resume, all, lock);
    const auto start = checkpoint ? std::nullopt : adapter_to_start_from(config, found.channels);
    for (const std::string& warning : warnings(config)) {
        log::warning(warning);
    }
    if (config.parallel.shard_base && all.world_size() == 1) {
        log::warning("parallel.shard_base: one process keeps the whole base");
    }
    const auto samples = open_samples(config, config.data, dtype, device, all);
    const auto held_out = open_held_out(config, dtype, device, all);
    check_same_clips(all, *samples, held_out.get());

    const auto sequence = train::make_sequence_group(all, config.parallel.context);
    const bool sharded = config.parallel.shard_base && all.world_size() > 1;
    const auto backbone = models::load_cogvideox(
        config.model.path, dtype, device,
        sharded ? std::make_unique<train::ShardedBlocks>(all.subgroup(every_rank(all), "base"))
                : blocks_at(plan));
    backbone->widen_input(found.channels);
    lora::attach_new(*backbone, config.lora, static_cast<std::uint64_t>(config.train.seed));
    if (start) {
        lora::start_from(*backbone, config.lora, *start);
        log::info("started from " + *config.lora.init_from);
    }
    const auto objective = alignment::make_matrix_objective(
        config.alignment, static_cast<std::uint64_t>(config.train.seed), device);

    train::RunParts parts{
        *backbone,
        found.schedule,
        *objective,
        *samples,
        batch_rules(config, found),
        {},
        {},
        {all, sequence.get(), static_cast<int>(config.parallel.context), sharded}};
    parts.adapter_info = {config.lora.rank,  config.lora.alpha, config.lora.rslora,
                          config.model.path, found.channels,    config.data.id_map};
    const RunObservers observers(config, parts, held_out.get());
    parts.observers = observers.list();
    reset_peak(device);
    train::train(parts, run_settings(config, plan), checkpoint);
    log::info("memory: tensors took at most " + gib_text(tensor_bytes(device).peak) + " at once" +
              (device.is_cpu() ? ", besides weights that are mapped from their files" : ""));
}

void train_main(const TrainFlags& flags) {
    const distributed::Environment environment = distributed::read_environment();
    log::set_rank(environment.rank);
    std::vector<std::string> faults;
    const RunConfig config = read_run_config(flags.config, flags.assignments, faults);
    const ModelConfigs found = read_model_configs(config, std::move(faults));
    if (flags.dry_run) {
        check_world(config, environment.world_size);
        if (!flags.resume.empty()) {
            if (const auto checkpoint = checkpoint_to_resume(flags.resume, config.output)) {
                compare_configs(*checkpoint, without_output(resolved(config)));
            }
        }
        static_cast<void>(adapter_to_start_from(config, found.channels));
        if (environment.rank == 0) {
            // A plan may be made where the run's GPU is not.
            const at::Device device = at::globalContext().hasCUDA()
                                          ? choose_device(config.model.device, 0)
                                          : at::Device(at::kCPU);
            std::cout << memory_plan(config, environment.world_size, free_for_run(device)).text();
        }
        return;
    }
    run_training(config, found, flags.resume, environment);
}

}  // namespace

void add_train_command(CLI::App& app, Action& action) {
    auto flags = std::make_shared<TrainFlags>();
    CLI::App* command = app.add_subcommand(
        "train", "Fine-tune a model: LoRA, with attention aligned to mask tracks");
    command->add_option("--config", flags->config, "The run, one JSON file")->required();
    command->add_option("--set", flags->assignments, "Set one field: path=value (repeatable)")
        ->take_all()
        ->allow_extra_args(false);
    command
        ->add_option("--resume", flags->resume,
                     "Go on from a checkpoint directory, or from the run's last: auto")
        ->check([](const std::string& name) { return name.empty() ? "is empty" : ""; });
    command->add_flag("--dry-run", flags->dry_run,
                      "Check the configuration and print the memory plan; loads no weights and "
                      "looks at no clips");
    command->footer(
        "Example:\n  matrix train --config configs/matrix-5b-i2v.json --set train.steps=2000");
    add_verbosity_flags(*command);
    command->callback([flags, &action] { action = [flags] { train_main(*flags); }; });
}

}  // namespace matrix::cli
