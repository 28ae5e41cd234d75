#include <ATen/Context.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iostream>

#include "cli/commands.h"
#include "cli/generate/settings.h"
#include "cli/generate/videos.h"
#include "cli/sample_source.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"
#include "matrix/lora/adapter.h"

namespace matrix::cli {
namespace {

using generate::Job;
using generate::Made;

struct GenerateFlags {
    generate::VideoSettings video;
    std::string model;
    std::string adapter;
    double adapter_strength = 1.0;
    std::string batch;
    std::string device = "auto";
    std::string dtype;
    bool low_memory = false;
    bool vae_tiling = false;
    bool json = false;
};

/// UsageError for what the command line says wrong, read like a row of a batch.
void check_flags(const GenerateFlags& flags) {
    std::vector<std::string> faults;
    generate::VideoSettings copy = flags.video;
    const nlohmann::json said = generate::fields(copy).write();
    generate::fields(copy).read(said, faults);
    if (!std::isfinite(flags.adapter_strength)) {
        faults.emplace_back("adapter_strength: is not a finite number");
    }
    if (flags.adapter_strength != 1.0 && flags.adapter.empty()) {
        faults.emplace_back("adapter_strength: there is no --adapter");
    }
    for (std::string& fault : faults) {
        std::replace(fault.begin(), fault.begin() + static_cast<std::ptrdiff_t>(fault.find(':')),
                     '_', '-');
        fault.insert(0, "--");
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
}

at::ScalarType dtype_for(const GenerateFlags& flags, at::Device device) {
    if (flags.dtype.empty()) {
        return device.is_cuda() ? at::kBFloat16 : at::kFloat;
    }
    return parse_compute_dtype(flags.dtype, "--dtype");
}

pipeline::PipelineOptions options_for(const GenerateFlags& flags) {
    pipeline::PipelineOptions options;
    options.model = flags.model;
    options.device = choose_device(flags.device);
    options.dtype = dtype_for(flags, options.device);
    if (!flags.adapter.empty()) {
        options.adapter = lora::read_adapter(flags.adapter);
    }
    options.adapter_strength = flags.adapter_strength;
    options.low_memory = flags.low_memory;
    options.vae_tiling = flags.vae_tiling;
    return options;
}

generate::Origin origin_of(const GenerateFlags& flags, const pipeline::PipelineOptions& options) {
    generate::Origin origin;
    origin.model = flags.model;
    origin.dtype = dtype_text(options.dtype);
    if (!flags.adapter.empty()) {
        origin.adapter = flags.adapter;
    }
    origin.adapter_strength = flags.adapter_strength;
    origin.vae_tiling = flags.vae_tiling;
    origin.sequential_guidance = flags.low_memory;
    return origin;
}

void warn_of_id_map(const std::vector<Job>& jobs, const pipeline::VideoPipeline& pipeline) {
    for (const Job& job : jobs) {
        if (pipeline.takes_id_map() && !job.settings.id_map) {
            log::warning((job.where.empty() ? "" : job.where + ": ") +
                         "no ID map, and the adapter was trained with one: its latents are zero, "
                         "as where training drops it");
        }
    }
}

nlohmann::json as_json(const Made& video) {
    nlohmann::json files = nlohmann::json::array();
    for (const auto& file : video.files) {
        files.push_back(file.string());
    }
    return {{"files", files}, {"seconds", video.seconds}, {"was_there", video.was_there}};
}

void print(const Made& video) {
    for (const auto& file : video.files) {
        std::cout << (video.was_there ? "is there: " : "wrote ") << file.string() << std::endl;
    }
}

void generate_main(const GenerateFlags& flags) {
    check_flags(flags);
    std::vector<Job> jobs = {{"", flags.video}};
    if (!flags.batch.empty()) {
        jobs = generate::read_batch(flags.batch, flags.video, flags.video.out);
    }
    install_stop_signals();
    const pipeline::PipelineOptions options = options_for(flags);
    pipeline::VideoPipeline pipeline(options);
    generate::resolve(jobs, pipeline);
    warn_of_id_map(jobs, pipeline);
    nlohmann::json made = nlohmann::json::array();
    const auto tell = [&](const Made& video) {
        made.push_back(as_json(video));
        if (!flags.json) {
            print(video);
        }
    };
    const auto print_json = [&] {
        if (flags.json && !made.empty()) {
            std::cout << made.dump(2) << std::endl;
        }
    };
    try {
        generate::make_videos(jobs, pipeline, origin_of(flags, options), !flags.batch.empty(),
                              tell);
    } catch (...) {
        print_json();
        throw;
    }
    print_json();
}

void add_video_flags(CLI::App& command, generate::VideoSettings& v) {
    command.add_option("--prompt", v.prompt, "What happens in the video");
    command.add_option("--negative-prompt", v.negative_prompt, "What guidance leads away from");
    command.add_option("--image", v.image,
                       "First frame; brought to size without keeping its aspect ratio");
    command.add_option("--id-map", v.id_map,
                       "Who is who in the first frame: an image in the colours of the IDs, or a "
                       "directory with id1.png... or folders <id1>...");
    command
        .add_option("--out", v.out,
                    "FILE.mp4 or FILE.gif; FILE.json beside it says how it was made. With --batch "
                    "the directory of the videos")
        ->required();
    command
        .add_option("--formats", v.formats,
                    "What to write, several with commas: mp4, gif, png (frames, in a directory)")
        ->delimiter(',');
    command.add_option("--seed", v.seed, "Equal seeds give equal videos on one device")
        ->capture_default_str();
    command.add_option("--frames", v.frames, "Frames; else what the model was made for");
    command.add_option("--height", v.height, "Pixels; else what the model was made for");
    command.add_option("--width", v.width, "Pixels; else what the model was made for");
    command.add_option("--fps", v.fps, "Frames per second; else 8, for 1.5 models 16");
    command.add_option("--steps", v.steps, "Denoising steps")->capture_default_str();
    command.add_option("--sampler", v.sampler, "ddim or dpm; else the model's scheduler");
    command
        .add_option("--guidance-scale", v.guidance_scale,
                    "Scale of classifier-free guidance; none up to 1")
        ->capture_default_str();
    command.add_flag("--dynamic-cfg", v.dynamic_cfg, "A guidance scale that follows the timestep");
}

void add_perturbation_flags(CLI::App& command, generate::VideoSettings& v) {
    command
        .add_option("--guidance", v.guidance,
                    "Training-free guidance, several with commas: cmg (grounding: words on their "
                    "regions), cag (propagation: frames on each other)")
        ->delimiter(',');
    command
        .add_option(
            "--cmg-blocks", v.cmg_blocks,
            "Blocks that cmg perturbs, as 7,11, which is the choice for models of 42 blocks")
        ->delimiter(',');
    command
        .add_option("--cag-blocks", v.cag_blocks,
                    "Blocks that cag perturbs; 12 for models of 42 blocks")
        ->delimiter(',');
    command
        .add_option("--perturbation-scale", v.perturbation_scale,
                    "Scale of the training-free guidance; 0 is none")
        ->capture_default_str();
    command.add_option(
        "--interactions", v.interactions,
        "Which words of the prompt cmg is for, as in a data set's row: [{\"subject\": {\"phrase\": "
        "\"man\", \"id\": 1}, \"verb\": {\"phrase\": \"hands\"}, \"object\": {...}}]");
    command.add_option(
        "--mask-tracks", v.mask_tracks,
        "Where cmg takes the words away: a directory with folders <id1>... of a mask "
        "a frame; else everywhere");
}

void add_model_flags(CLI::App& command, GenerateFlags& flags) {
    command.add_option("--model", flags.model, "Hugging Face directory of a CogVideoX model")
        ->required();
    command.add_option("--adapter", flags.adapter,
                       "An adapter directory, a LoRA file, or a checkpoint of a run");
    command
        .add_option("--adapter-strength", flags.adapter_strength,
                    "Multiplies what the adapter changes")
        ->capture_default_str();
    command.add_option("--batch", flags.batch,
                       "A JSONL file, one video a line: the flags' names with _ for -; the flags "
                       "hold for what a line leaves out. Videos that are there are passed over");
    command.add_option("--device", flags.device, "auto, cpu or cuda")
        ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
        ->capture_default_str();
    command.add_option("--dtype", flags.dtype,
                       "float32 or bfloat16; else bfloat16 on a GPU, float32 on a CPU");
    command.add_flag("--low-memory", flags.low_memory,
                     "Hold transformer and VAE only while they work, and run the passes of "
                     "guidance one after the other");
    command.add_flag("--vae-tiling", flags.vae_tiling,
                     "Encode and decode in overlapping tiles: less memory, a slightly different "
                     "video");
    command.add_flag("--json", flags.json, "Print what was written as JSON");
}

}  // namespace

void add_generate_command(CLI::App& app, Action& action) {
    auto flags = std::make_shared<GenerateFlags>();
    CLI::App* command = app.add_subcommand("generate", "Make a video from an image and a prompt");
    add_model_flags(*command, *flags);
    add_video_flags(*command, flags->video);
    add_perturbation_flags(*command, flags->video);
    command->footer(
        "Example:\n  matrix generate --model models/CogVideoX-5b-I2V --adapter runs/a/adapter "
        "--image first.png --prompt \"A man hands a cup to a woman.\" --out video.mp4");
    add_verbosity_flags(*command);
    command->callback([flags, &action] { action = [flags] { generate_main(*flags); }; });
}

}  // namespace matrix::cli
