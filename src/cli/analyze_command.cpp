#include <ATen/ATen.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <set>

#include "cli/analyze/clips.h"
#include "cli/analyze/output.h"
#include "cli/analyze/reading.h"
#include "cli/analyze/report_files.h"
#include "cli/analyze/settings.h"
#include "cli/analyze/work.h"
#include "cli/commands.h"
#include "cli/run_config.h"
#include "cli/sample_source.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"
#include "matrix/log/progress.h"
#include "matrix/lora/adapter.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;
using analyze::Settings;

pipeline::PipelineOptions options_for(const Settings& settings) {
    pipeline::PipelineOptions options;
    options.model = settings.model;
    options.device = choose_device(settings.device);
    options.dtype = !settings.dtype.empty()    ? parse_compute_dtype(settings.dtype, "--dtype")
                    : options.device.is_cuda() ? at::kBFloat16
                                               : at::kFloat;
    if (!settings.adapter.empty()) {
        options.adapter = lora::read_adapter(settings.adapter);
    }
    options.adapter_strength = settings.adapter_strength;
    return options;
}

void check_flags(const Settings& settings, const pipeline::VideoPipeline& pipeline) {
    std::vector<std::string> faults;
    if (settings.adapter.empty() && settings.adapter_strength != 1.0) {
        faults.emplace_back("--adapter-strength: there is no --adapter");
    }
    for (const auto& [flag, value] : {std::pair("--adapter-strength", settings.adapter_strength),
                                      std::pair("--guidance-scale", settings.guidance_scale),
                                      std::pair("--dummy-variance", settings.dummy_variance)}) {
        if (!std::isfinite(value)) {
            faults.push_back(std::string(flag) + ": is not a finite number");
        }
    }
    for (const std::int64_t timestep : settings.timesteps) {
        const std::int64_t count = pipeline.scheduler().num_train_timesteps;
        if (timestep < 0 || timestep >= count) {
            faults.push_back("--timesteps: " + std::to_string(timestep) + " is not in 0.." +
                             std::to_string(count - 1));
        }
    }
    if (std::set(settings.timesteps.begin(), settings.timesteps.end()).size() !=
        settings.timesteps.size()) {
        faults.emplace_back("--timesteps: one is there twice");
    }
    if (pipeline.rules().transformer.patch_size_t) {
        faults.emplace_back(
            "--model: it patches frames in time, so that its attention has no "
            "cells of single latent frames to hold against masks");
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
}

std::string cost_text(const analyze::Cost& cost, bool generated) {
    char text[160];
    std::snprintf(text, sizeof text,
                  "Reading attention took %.2f of %.2f seconds: %.1f %% on top of %s.",
                  cost.reading_seconds, cost.seconds, 100 * cost.share(),
                  generated ? "plain generation" : "plain forwards");
    return text;
}

std::string label_of(const Settings& settings) {
    const auto name = [](const std::string& path) {
        return fs::absolute(path).lexically_normal().filename().string();
    };
    return !settings.label.empty()     ? settings.label
           : !settings.adapter.empty() ? name(settings.adapter)
                                       : name(settings.model);
}

void print(const analyze::Analysis& analysis, const Settings& settings) {
    if (settings.json) {
        std::cout << read_text_file(fs::path(settings.out) / "analysis.json");
        return;
    }
    for (std::size_t i = 0; i < analysis::kVariants.size(); ++i) {
        const analysis::LayerChoice& choice = analysis.summary.variants[i].choice;
        std::cout << analysis::kVariants[i].title << ": " << choice.reason << '\n';
    }
    std::cout << "wrote " << (fs::path(settings.out) / "report.html").string() << '\n';
}

analysis::SummaryOptions summary_options(const Settings& settings,
                                         const std::vector<data_source::Row>& rows) {
    analysis::SummaryOptions options;
    options.layers_per_variant = static_cast<std::size_t>(settings.layers_per_variant);
    options.dummy_variance = settings.dummy_variance;
    if (settings.outcomes.empty()) {
        return options;
    }
    options.outcomes = analyze::read_outcomes(settings.outcomes);
    std::vector<std::string> faults;
    for (const analysis::Outcome& outcome : options.outcomes) {
        if (std::ranges::find(rows, outcome.video, &data_source::Row::video) == rows.end()) {
            faults.push_back(settings.outcomes + ": " + outcome.video + " is no video of " +
                             settings.data);
        }
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
    return options;
}

/// Its faults now, and not when everything has been read.
void check_config_to_write(const std::string& path) {
    std::vector<std::string> faults;
    if (fs::exists(path)) {
        static_cast<void>(read_run_config(path, {}, faults));
    }
    for (std::string& fault : faults) {
        fault.insert(0, path + ": ");
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
}

void analyze_main(const Settings& settings) {
    install_stop_signals();
    const pipeline::PipelineOptions options = options_for(settings);
    pipeline::VideoPipeline pipeline(options);
    check_flags(settings, pipeline);
    const data_cache::DataConfig data = analyze::data_config(settings, pipeline);
    const text::T5Tokenizer tokenizer(fs::path(settings.model) / "tokenizer");
    const analyze::ClipRules rules{data, tokenizer, settings.spans == "published"};
    std::vector<data_source::Row> rows = data_source::read_manifest(settings.data).rows;
    const analysis::SummaryOptions summary = summary_options(settings, rows);
    if (settings.clips > 0 && static_cast<std::size_t>(settings.clips) < rows.size()) {
        rows.resize(static_cast<std::size_t>(settings.clips));
    }
    check_config_to_write(settings.write_config);
    fs::create_directories(fs::path(settings.out) / "records");
    std::optional<analyze::Analysis> beside;
    if (!settings.beside.empty()) {
        beside = analyze::read_earlier(settings.beside, summary);
    }

    std::vector<std::string> faults;
    std::string cost;
    std::vector<analyze::Work> work = analyze::plan(rows, settings, rules, options, faults);
    if (std::ranges::any_of(work, [](const analyze::Work& clip) { return !clip.is_there; })) {
        const auto reader = settings.generate
                                ? analyze::read_generation(settings, options.device, pipeline)
                                : analyze::read_clips(settings, options, pipeline);
        analyze::read_missing(work, settings, rules, *reader, faults);
        cost = cost_text(reader->cost(), settings.generate);
        if (!settings.json) {
            log::info(cost);
        }
    }
    if (!faults.empty()) {
        faults.push_back("analyze: " + std::to_string(work.size()) + " of " +
                         std::to_string(rows.size()) +
                         " clips were read; the others are left out for the reasons above");
    }
    if (!work.empty()) {
        std::vector<fs::path> records;
        for (const analyze::Work& clip : work) {
            records.push_back(analyze::record_path(settings.out, clip.row->video));
        }
        const analyze::Analysis analysis =
            analyze::read_analysis(label_of(settings), records, summary);
        analyze::write_tables(settings.out, analysis);
        const std::vector<std::string> undrawn =
            analyze::write_report(analysis, {settings, rules, rows, beside, faults, cost});
        faults.insert(faults.end(), undrawn.begin(), undrawn.end());
        if (!settings.write_config.empty()) {
            analyze::write_config(settings.write_config, settings.model, data, analysis.summary);
        }
        print(analysis, settings);
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
    if (rows.empty()) {
        throw RunError(settings.data + ": has no clips");
    }
}

}  // namespace

void add_analyze_command(CLI::App& app, Action& action) {
    auto s = std::make_shared<Settings>();
    CLI::App* command =
        app.add_subcommand("analyze", "See which layers' attention finds who does what to whom");
    command->add_option("--model", s->model, "Hugging Face directory of a CogVideoX model")
        ->required();
    command->add_option("--adapter", s->adapter,
                        "An adapter directory, a LoRA file, or a checkpoint of a run");
    command
        ->add_option("--adapter-strength", s->adapter_strength,
                     "Multiplies what the adapter changes")
        ->capture_default_str();
    command
        ->add_option("--data", s->data,
                     "A data set in the MATRIX layout: prompts with roles, clips, mask tracks")
        ->required();
    command
        ->add_option("--out", s->out,
                     "Directory of the tables, pictures and report.html; clips that are there "
                     "are passed over")
        ->required();
    command->add_option("--beside", s->beside,
                        "An earlier --out, whose results stand beside these in the report");
    command->add_option("--label", s->label,
                        "What the report calls this analysis; else the adapter's or model's name");
    command->add_option("--write-config", s->write_config,
                        "A run's JSON file, which gets the chosen layers");
    command->add_option("--outcomes", s->outcomes,
                        R"(JSON, {"videos/a.mp4": "success", ...}: what people saw happen, for )"
                        "the dominance of layers");
    CLI::Option* timesteps =
        command
            ->add_option("--timesteps", s->timesteps,
                         "Noise levels at which the clips are read, with commas")
            ->delimiter(',')
            ->capture_default_str();
    CLI::Option* generate = command->add_flag(
        "--generate", s->generate,
        "Read while the model makes a video from each first frame and prompt; the "
        "masks must be those of that video");
    timesteps->excludes(generate);
    command->add_option("--steps", s->steps, "Denoising steps, with --generate")
        ->needs(generate)
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command
        ->add_option("--guidance-scale", s->guidance_scale,
                     "Classifier-free guidance, with --generate; its conditional half is read")
        ->needs(generate)
        ->capture_default_str();
    command->add_option("--seed", s->seed, "Of the noise")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--frames", s->frames, "Frames; else what the model was made for");
    command->add_option("--height", s->height, "Pixels; else what the model was made for");
    command->add_option("--width", s->width, "Pixels; else what the model was made for");
    command->add_option("--clips", s->clips, "The first ones alone; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--overlays", s->overlays, "Clips of which the maps are drawn")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--layers-per-variant", s->layers_per_variant, "Layers chosen of each")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command
        ->add_option("--dummy-variance", s->dummy_variance,
                     "A layer whose score varies less over the prompts, in squares of its "
                     "mean, is left out of grounding")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command
        ->add_option("--spans", s->spans,
                     "How phrases find their tokens: exact, or published as in the authors' "
                     "analysis")
        ->check(CLI::IsMember({"exact", "published"}))
        ->capture_default_str();
    command->add_option("--device", s->device, "auto, cpu or cuda")
        ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
        ->capture_default_str();
    command->add_option("--dtype", s->dtype,
                        "float32 or bfloat16; else bfloat16 on a GPU, float32 on a CPU");
    command->add_flag("--json", s->json, "Print analysis.json");
    command->footer(
        "Example:\n  matrix analyze --model models/CogVideoX-5b-I2V --data data/validation "
        "--out analysis/base --write-config run.json");
    add_verbosity_flags(*command);
    command->callback([s, &action] { action = [s] { analyze_main(*s); }; });
}

}  // namespace matrix::cli
