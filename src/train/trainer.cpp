#include "matrix/train/trainer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/signals.h"
#include "matrix/distributed/collective.h"
#include "matrix/log/log.h"
#include "matrix/log/progress.h"
#include "matrix/lora/export.h"
#include "matrix/lora/model_card.h"
#include "matrix/train/batch_stream.h"
#include "matrix/train/checkpoint.h"
#include "matrix/train/checkpoint_writer.h"
#include "matrix/train/metrics.h"
#include "matrix/train/performance.h"
#include "train/run_state.h"
#include "train/step_record.h"
#include "train/watch.h"

namespace matrix::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string step_name(std::int64_t step) {
    return "step " + std::to_string(step);
}

/// Leaves the loop for the last checkpoint.
struct RollBack {
    SampleRange samples;  ///< of the step that failed
};

std::optional<BestRule> best_rule(const CheckpointConfig& config) {
    return config.best_metric ? std::optional(BestRule::of(*config.best_metric)) : std::nullopt;
}

/// The loop around the step, from one checkpoint to the end or to where it must go back.
class Run {
public:
    Run(const RunParts& parts, const RunSettings& settings, RunState& state)
        : parts_(parts),
          settings_(settings),
          ranks_(parts.ranks),
          state_(state),
          gradients_(state.trained, ranks_.all),
          share_{settings.train.batch_size, settings.train.gradient_accumulation, ranks_.replica(),
                 ranks_.num_replicas()},
          checkpoints_(settings.output, settings.checkpoint.keep_last,
                       best_rule(settings.checkpoint)) {
        position().config = settings.checkpoint_config;
    }

    void go() {
        state_.share();
        state_.verify("at the start");
        say_batch();
        if (ranks_.is_main()) {
            open_directory();
        }
        for (StepObserver* observer : parts_.observers) {
            observer->at_start(position().step);
        }
        BatchStream stream(parts_.samples, parts_.rules, share_, position().next_sample,
                           position().skipped);
        log::Progress progress("train", settings_.train.steps, position().step);
        while (position().step < settings_.train.steps) {
            one_step(stream, progress);
        }
        progress.finish();
        checkpoints_.wait();
        if (ranks_.is_main()) {
            export_adapter();
        }
        for (StepObserver* observer : parts_.observers) {
            observer->at_end(position().step);
        }
    }

private:
    [[nodiscard]] TrainState& position() { return state_.position; }

    void say_batch() {
        const std::int64_t before = position().global_batch, now = share_.global_batch();
        if (before != 0 && before != now) {
            log::warning("the global batch was " + std::to_string(before) +
                         " clips at the checkpoint and is " + std::to_string(now) +
                         ": the run goes on from sample " + std::to_string(position().next_sample));
        }
        position().global_batch = now;
    }

    void open_directory() {
        const std::int64_t count = discard_checkpoints_after(settings_.output, position().step);
        if (count > 0) {
            log::warning("deleted " + std::to_string(count) + " checkpoints of steps after " +
                         std::to_string(position().step) + ", which this run goes through again");
        }
        write_file_atomically(settings_.output / "config.json", settings_.config_text);
        metrics_.emplace(settings_.output / "metrics.jsonl", position().step);
        performance_file_.emplace(settings_.output / "performance.jsonl", position().step);
        stalls_.emplace([this] { return ranks_.all.phases(); });
    }

    void one_step(BatchStream& stream, log::Progress& progress) {
        const Clock::time_point begin = Clock::now();
        const std::string name = step_name(position().step + 1);
        if (stalls_) {
            stalls_->begin(name);
        }
        std::vector<BatchFacts> batches;
        double data_seconds = 0.0;
        const auto next_batch = [&] {
            const Clock::time_point waiting = Clock::now();
            ranks_.all.set_phase("reading clips, " + name);
            Batch batch = stream.next();
            ranks_.all.set_phase("computing, " + name);
            data_seconds += seconds_since(waiting);
            batches.push_back(batch);  // its facts alone
            if (!performance_) {
                performance_.emplace(parts_.backbone, layout_of(batch), share_.global_batch(),
                                     ranks_);
            }
            return batch;
        };
        const double factor =
            learning_rate_factor(settings_.schedule, position().step, settings_.train.steps);
        const StepResult result =
            training_step(next_batch,
                          {parts_.backbone, parts_.schedule, parts_.objective, state_.optimizer,
                           gradients_, ranks_},
                          {settings_.train.gradient_accumulation, factor, settings_.keep, name});
        StepFacts facts = facts_of(result, batches, data_seconds);
        agree(facts, ranks_, name);

        const std::int64_t first =
            step_begin(position().next_sample, share_.global_batch(), position().skipped);
        ++position().step;
        position().next_sample = first + share_.global_batch();
        nlohmann::json record =
            record_of(position().step, result, facts, settings_.optimizer.learning_rate * factor);
        if (const auto term = non_finite_term(record)) {
            not_finite(*term, result, batches);
        }
        if (stalls_) {
            stalls_->end();
        }
        tell(record, seconds_since(begin));
        progress.update(position().step, progress_detail(record));
        after_step(record, facts.signal, progress);
    }

    /// To the observers, and into the run's files.
    void tell(nlohmann::json& record, double step_seconds) {
        const std::int64_t step = position().step;
        record["step_seconds"] = step_seconds;
        const nlohmann::json performance =
            performance_->of_step(step, step_seconds, record["data_seconds"]);
        for (StepObserver* observer : parts_.observers) {
            observer->after_step(step, record, performance);
        }
        if (const auto spike = losses_.look(
                record["loss"].is_null() ? std::nan("") : record["loss"].get<double>())) {
            log::warning(step_name(step) + ": " + *spike);
        }
        if (metrics_) {
            metrics_->append(record);
            performance_file_->append(performance);
        }
    }

    /// Checks, checkpoints and the stop that a signal asks for.
    void after_step(const nlohmann::json& record, std::optional<int> signal,
                    log::Progress& progress) {
        const std::int64_t step = position().step, every = settings_.checkpoint.every_steps;
        const bool last = step == settings_.train.steps;
        if (step % settings_.verify_every_steps == 0) {
            state_.verify("after " + step_name(step));
        }
        if (last || signal || (every > 0 && step % every == 0)) {
            save(record);
        } else if (checkpoints_.failed()) {
            checkpoints_.wait();  // throws what happened
        }
        if (signal && !last) {
            checkpoints_.wait();
            // Launchers end the other processes when the first one leaves.
            ranks_.all.meet("the last checkpoint");
            progress.finish();
            log::info("stopped by signal " + std::to_string(*signal) + " after " + step_name(step) +
                      "; --resume auto goes on from here");
            throw Stopped{*signal};
        }
        for (StepObserver* observer : parts_.observers) {
            observer->after_saving(step);
        }
    }

    void save(const nlohmann::json& record) {
        if (!ranks_.is_main()) {
            return;
        }
        const std::optional<std::string>& metric = settings_.checkpoint.best_metric;
        position().score = metric && record.contains("validation")
                               ? checkpoint_score(record["validation"], *metric)
                               : std::nullopt;
        checkpoints_.write(Snapshot::take(state_.trained, parts_.adapter_info,
                                          state_.optimizer.state(), position()),
                           [this] { metrics_->sync(); });
    }

    /// All ranks come here alike. Returns where the run goes on without the step.
    void not_finite(const std::string& term, const StepResult& result,
                    const std::vector<BatchFacts>& batches) {
        const std::string name = step_name(position().step);
        const auto clips_of_ranks = [&](bool all) {
            std::string clips;
            for (const std::string& own : distributed::gather_text(
                     ranks_.all,
                     ranks_.all.rank() % ranks_.context == 0 ? name_clips(result, batches, all)
                                                             : "",
                     "clips of " + name)) {
                clips += (clips.empty() || own.empty() ? "" : ", ") + own;
            }
            return clips;
        };
        std::string clips = clips_of_ranks(false);
        if (clips.empty()) {
            clips = clips_of_ranks(true);  // the gradient alone: no loss tells whose
        }
        const std::string message = name + ": " + term + " is not finite; clips: " + clips;
        const std::string& policy = settings_.train.non_finite;
        if (policy == "stop") {
            throw RunError(message +
                           "; set train.non_finite to \"skip\" to leave such steps out, "
                           "or to \"rollback\"");
        }
        log::warning(message + (policy == "skip" ? "; the step is left out" : ""));
        if (policy == "rollback") {
            throw RollBack{
                {position().next_sample - share_.global_batch(), position().next_sample}};
        }
    }

    [[nodiscard]] nn::TokenLayout layout_of(const Batch& batch) const {
        const at::Tensor& latents = batch.latents;  // [B, F, C, h, w]
        return parts_.backbone.layout(latents.size(1), latents.size(3), latents.size(4),
                                      batch.encoder_hidden_states.size(1));
    }

    void export_adapter() {
        const std::filesystem::path directory = settings_.output / "adapter";
        const lora::Adapter adapter = lora::collect(parts_.backbone, parts_.adapter_info);
        lora::ExportOptions options;
        options.card = [&](const std::vector<std::string>& files) {
            lora::CardFacts facts = lora::card_facts(adapter);
            facts.format = lora::format_name(options.format);
            facts.files = files;
            facts.run_config = settings_.config_text;
            return lora::model_card(facts);
        };
        const double error = lora::export_adapter(adapter, directory, options).largest_difference;
        char text[32];
        std::snprintf(text, sizeof text, "%.1e", error);
        log::info("adapter written to " + directory.string() +
                  " and read back (largest difference " + text + ")");
    }

    const RunParts& parts_;
    const RunSettings& settings_;
    const Ranks& ranks_;
    RunState& state_;
    GradientExchange gradients_;
    SampleShare share_;
    LossWatch losses_;
    std::optional<Performance> performance_;  // once a clip's size is known
    // Rank 0's:
    std::optional<MetricsFile> metrics_, performance_file_;
    std::optional<StallWatch> stalls_;
    CheckpointWriter checkpoints_;  // goes first: its thread syncs the metrics
};

/// The checkpoint to go back to, on every rank.
std::filesystem::path checkpoint_to_go_back_to(const RunParts& parts, const RunSettings& settings,
                                               const std::string& last_time) {
    return distributed::from_rank_0(
        parts.ranks.all,
        [&] {
            const auto checkpoint = last_checkpoint(settings.output);
            if (!checkpoint) {
                throw RunError("train.non_finite: there is no checkpoint to roll back to");
            }
            if (checkpoint->string() == last_time) {
                throw RunError("the second step since " + last_time +
                               " that is not finite: the run stops; look at the clips named above");
            }
            return checkpoint->string();
        },
        "rolling back");
}

}  // namespace

void train(const RunParts& parts, const RunSettings& settings,
           const std::optional<std::filesystem::path>& resume) {
    RunState state(parts, settings);
    const auto load = [&](const std::filesystem::path& checkpoint) {
        state.load(checkpoint);
        log::info("resuming from " + checkpoint.string() + " at " + step_name(state.position.step));
    };
    if (resume) {
        load(*resume);
    }
    std::filesystem::path rolled_back_to;
    while (true) {
        try {
            Run(parts, settings, state).go();
            return;
        } catch (const RollBack& failed) {
            std::vector<SampleRange> skipped = state.position.skipped;
            skipped.push_back(failed.samples);
            rolled_back_to = checkpoint_to_go_back_to(parts, settings, rolled_back_to.string());
            load(rolled_back_to);
            state.position.skipped = skipped;
        }
    }
}

}  // namespace matrix::train
