#include "matrix/train/trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"
#include "matrix/log/progress.h"
#include "matrix/train/batch_stream.h"
#include "matrix/train/checkpoint.h"
#include "matrix/train/metrics.h"

namespace matrix::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::map<std::string, at::Tensor> all_trained(const RunParts& parts) {
    std::map<std::string, at::Tensor> trained = lora::trained_parameters(parts.backbone);
    trained.merge(parts.objective.parameters());
    return trained;
}

/// JSON has no NaN: what is not finite is written as null.
nlohmann::json number(double value) {
    return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

/// The step's record for metrics.jsonl; reading the tensors is where the host waits for the device.
nlohmann::json record_of(std::int64_t step, const StepResult& result,
                         const std::vector<BatchFacts>& batches, double learning_rate) {
    std::int64_t images = 0, captions = 0, id_maps = 0;
    for (const BatchFacts& batch : batches) {
        images += batch.images_dropped;
        captions += batch.captions_dropped;
        id_maps += batch.id_maps_dropped;
    }
    nlohmann::json record = {{"step", step},
                             {"loss", number(result.loss.item<double>())},
                             {"loss_denoise", number(result.loss_denoise.item<double>())},
                             {"learning_rate", learning_rate},
                             {"grad_norm", number(result.grad_norm.item<double>())},
                             {"images_dropped", images},
                             {"captions_dropped", captions},
                             {"id_maps_dropped", id_maps}};
    for (const alignment::TermResult& term : result.terms) {
        record["loss_" + term.name] = number(term.loss.item<double>());
        record[term.name + "_counted"] = term.counted;
        record[term.name + "_skipped"] = term.skipped;
    }
    return record;
}

/// Which quantity of a step is not finite, or nothing: a part before the sum that it spoils.
std::optional<std::string> non_finite_term(const nlohmann::json& record) {
    for (const auto& [name, value] : record.items()) {
        if (name.starts_with("loss_") && value.is_null()) {
            return name;
        }
    }
    for (const char* name : {"loss", "grad_norm"}) {
        if (record[name].is_null()) {
            return name;
        }
    }
    return std::nullopt;
}

void report_non_finite(const std::string& term, std::int64_t step,
                       const std::vector<BatchFacts>& batches, const TrainConfig& config) {
    std::string clips;
    for (const BatchFacts& batch : batches) {
        for (std::size_t i = 0; i < batch.names.size(); ++i) {
            clips +=
                (clips.empty() ? "" : ", ") + batch.names[i] + " (sample " +
                std::to_string(batch.sample_numbers[i]) + ", timestep " +
                std::to_string(batch.timestep[static_cast<std::int64_t>(i)].item<std::int64_t>()) +
                ")";
        }
    }
    const std::string message =
        "step " + std::to_string(step) + ": " + term + " is not finite; clips: " + clips;
    if (config.non_finite == "stop") {
        throw RunError(message + "; set train.non_finite to \"skip\" to leave such steps out");
    }
    log::warning(message + "; the step is left out");
}

std::string progress_detail(const nlohmann::json& record) {
    std::string detail;
    const auto add = [&](const std::string& label, const nlohmann::json& value) {
        char text[64];
        std::snprintf(text, sizeof text, "%s%s %.4f", detail.empty() ? "" : "  ", label.c_str(),
                      value.is_number() ? value.get<double>() : std::nan(""));
        detail += text;
    };
    add("loss", record.at("loss"));
    for (const auto& [name, value] : record.items()) {
        if (name.starts_with("loss_")) {
            add(name.substr(5), value);
        }
    }
    return detail;
}

/// The loop around the step.
class Run {
public:
    Run(const RunParts& parts, const RunSettings& settings)
        : parts_(parts),
          settings_(settings),
          trained_(all_trained(parts)),
          optimizer_(trained_, settings.optimizer, settings.head_learning_rate) {}

    void resume(const std::filesystem::path& checkpoint) {
        check_deltas(checkpoint);
        const LoadedCheckpoint loaded = load_checkpoint(checkpoint, trained_);
        optimizer_.load_state(loaded.optimizer, (checkpoint / "optimizer.safetensors").string());
        state_ = loaded.state;
        log::info("resuming from " + checkpoint.string() + " at step " +
                  std::to_string(state_.step));
    }

    void go() {
        if (const std::int64_t count = discard_checkpoints_after(settings_.output, state_.step)) {
            log::warning("deleted " + std::to_string(count) + " checkpoints of steps after " +
                         std::to_string(state_.step) + ", which this run goes through again");
        }
        write_file_atomically(settings_.output / "config.json", settings_.config_text);
        MetricsFile metrics(settings_.output / "metrics.jsonl", state_.step);
        for (StepObserver* observer : parts_.observers) {
            observer->at_start(state_.step);
        }
        BatchStream stream(parts_.samples, parts_.rules, settings_.train.batch_size,
                           state_.next_sample);
        log::Progress progress("train", settings_.train.steps, state_.step);
        while (state_.step < settings_.train.steps) {
            const nlohmann::json record = one_step(stream);
            metrics.append(record);
            progress.update(state_.step, progress_detail(record));
            const bool last = state_.step == settings_.train.steps;
            const std::int64_t every = settings_.checkpoint.every_steps;
            const std::optional<int> signal = stop_signal();
            if (last || signal || (every > 0 && state_.step % every == 0)) {
                metrics.sync();
                save();
            }
            if (signal && !last) {
                progress.finish();
                log::info("stopped by signal " + std::to_string(*signal) + " after step " +
                          std::to_string(state_.step) + "; --resume auto goes on from here");
                throw Stopped{*signal};
            }
        }
        progress.finish();
        const double error = lora::export_diffusers(
            lora::collect(parts_.backbone, parts_.adapter_info), settings_.output / "adapter");
        char text[32];
        std::snprintf(text, sizeof text, "%.1e", error);
        log::info("adapter written to " + (settings_.output / "adapter").string() +
                  " and read back (largest difference " + text + ")");
        for (StepObserver* observer : parts_.observers) {
            observer->at_end(state_.step);
        }
    }

private:
    nlohmann::json one_step(BatchStream& stream) {
        const Clock::time_point begin = Clock::now();
        std::vector<BatchFacts> batches;
        double data_seconds = 0.0;
        const auto next_batch = [&] {
            const Clock::time_point waiting = Clock::now();
            Batch batch = stream.next();
            data_seconds += seconds_since(waiting);
            batches.push_back(batch);  // its facts alone
            return batch;
        };
        const double factor =
            learning_rate_factor(settings_.schedule, state_.step, settings_.train.steps);
        const StepResult result = training_step(next_batch, settings_.train.gradient_accumulation,
                                                parts_.backbone, parts_.schedule, parts_.objective,
                                                optimizer_, factor, settings_.checkpointing);
        ++state_.step;
        state_.next_sample += settings_.train.gradient_accumulation * settings_.train.batch_size;
        nlohmann::json record =
            record_of(state_.step, result, batches, settings_.optimizer.learning_rate * factor);
        if (const auto term = non_finite_term(record)) {
            report_non_finite(*term, state_.step, batches, settings_.train);
        }
        record["step_seconds"] = seconds_since(begin);
        record["data_seconds"] = data_seconds;
        for (StepObserver* observer : parts_.observers) {
            observer->after_step(state_.step, record);
        }
        return record;
    }

    /// Low-rank factors mean nothing without the factor on their product; and of a rank, one line
    /// is enough.
    void check_deltas(const std::filesystem::path& checkpoint) const {
        const bool has_deltas = std::any_of(
            trained_.begin(), trained_.end(),
            [](const auto& entry) { return entry.first.find(".lora_A.") != std::string::npos; });
        if (!has_deltas) {
            return;
        }
        const lora::AdapterInfo found = lora::read_adapter(checkpoint).info;
        const lora::AdapterInfo& wanted = parts_.adapter_info;
        const auto differs = [&](const std::string& field, const std::string& there,
                                 const std::string& here) {
            if (there != here) {
                throw RunError(checkpoint.string() + ": trained with lora." + field + " = " +
                               there + ", this run's is " + here);
            }
        };
        differs("rank", std::to_string(found.rank), std::to_string(wanted.rank));
        differs("alpha", nlohmann::json(found.alpha).dump(), nlohmann::json(wanted.alpha).dump());
        differs("rslora", nlohmann::json(found.rslora).dump(),
                nlohmann::json(wanted.rslora).dump());
    }

    void save() {
        save_checkpoint(checkpoint_directory(settings_.output, state_.step), trained_,
                        parts_.adapter_info, optimizer_.state(), state_);
        prune_checkpoints(settings_.output, settings_.checkpoint.keep_last);
    }

    const RunParts& parts_;
    const RunSettings& settings_;
    std::map<std::string, at::Tensor> trained_;
    AdamW optimizer_;
    TrainState state_;
};

}  // namespace

void train(const RunParts& parts, const RunSettings& settings,
           const std::optional<std::filesystem::path>& resume) {
    Run run(parts, settings);
    if (resume) {
        run.resume(*resume);
    }
    run.go();
}

}  // namespace matrix::train
