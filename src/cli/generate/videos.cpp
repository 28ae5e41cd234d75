#include "cli/generate/videos.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <map>

#include "cli/fingerprints.h"
#include "cli/generate/conditions.h"
#include "cli/generate/output_files.h"
#include "cli/generate/perturbation.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"
#include "matrix/log/progress.h"
#include "matrix/pipeline/latents.h"
#include "matrix/text/phrases.h"
#include "matrix/text/t5_tokenizer.h"

namespace matrix::cli::generate {
namespace {

namespace fs = std::filesystem;

using nlohmann::json;

json optional_hash(const std::optional<std::string>& path) {
    return path ? json(hash_path(*path)) : json(nullptr);
}

/// What a video was made from: equal records, equal videos on one device.
json record_of(const VideoSettings& settings, const Origin& origin, const std::string& model,
               const json& adapter) {
    VideoSettings copy = settings;
    return {{"settings", fields(copy).write()},
            {"image_hash", optional_hash(settings.image)},
            {"id_map_hash", optional_hash(settings.id_map)},
            {"mask_tracks_hash", optional_hash(settings.mask_tracks)},
            {"model", origin.model.string()},
            {"model_files", model},
            {"dtype", origin.dtype},
            {"adapter", adapter},
            {"vae_tiling", origin.vae_tiling},
            {"sequential_guidance", origin.sequential_guidance}};
}

json adapter_record(const Origin& origin) {
    if (!origin.adapter) {
        return nullptr;
    }
    return {{"path", origin.adapter->string()},
            {"hash", hash_path(*origin.adapter)},
            {"strength", origin.adapter_strength}};
}

void load_conditions(const VideoSettings& settings, const pipeline::VideoPipeline& pipeline,
                     const fs::path& model, pipeline::VideoRequest& request) {
    if (settings.image) {
        request.image = load_image(*settings.image, *settings.height, *settings.width);
    }
    if (settings.id_map) {
        request.id_map = load_id_map(*settings.id_map, *settings.height, *settings.width);
    }
    request.guidance.perturbation = load_perturbation(settings, pipeline.rules(), model);
}

struct Work {
    const Job* job;
    OutputFiles files;
    json record;
    bool is_there = false;
};

/// RunError with the faults of every job that has one.
void check_files(const std::vector<Work>& work, const pipeline::VideoPipeline& pipeline,
                 const fs::path& model) {
    std::vector<std::string> faults;
    for (const Work& video : work) {
        if (video.is_there) {
            continue;
        }
        try {
            video.files.check_writable();
            pipeline::VideoRequest discarded;
            load_conditions(video.job->settings, pipeline, model, discarded);
        } catch (const Error& error) {
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
        }
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
}

using Embeddings = std::map<std::string, at::Tensor>;  // [1, L, text width]

Embeddings encode_prompts(const std::vector<Work>& work, const pipeline::VideoPipeline& pipeline,
                          const fs::path& model) {
    Embeddings embeddings;
    for (const Work& video : work) {
        if (video.is_there) {
            continue;
        }
        const VideoSettings& settings = video.job->settings;
        embeddings[settings.prompt];
        if (pipeline::Guidance{settings.guidance_scale}.runs()) {
            embeddings[settings.negative_prompt];
        }
    }
    if (embeddings.empty()) {
        return embeddings;
    }
    const text::T5Tokenizer tokenizer(model / "tokenizer");
    std::vector<std::string> prompts;
    for (const auto& [prompt, none] : embeddings) {
        prompts.push_back(prompt);
        if (tokenizer.encode(prompt).truncated()) {
            log::warning("a prompt is cut off after " + std::to_string(text::kMaxTokens) +
                         " tokens: " + json(prompt).dump());
        }
        if (prompt.find("<id") != std::string::npos && text::strip_id_markers(prompt) != prompt) {
            log::warning(
                "a prompt has ID markers, which training takes out of captions unless "
                "data.strip_id_markers is false");
        }
    }
    const at::Tensor encoded = pipeline.encode_prompts(tokenizer.input_ids(prompts));
    std::int64_t row = 0;
    for (auto& [prompt, embedding] : embeddings) {
        embedding = encoded.narrow(0, row++, 1);
    }
    return embeddings;
}

pipeline::VideoRequest request_of(const VideoSettings& settings, const Embeddings& embeddings,
                                  const pipeline::VideoPipeline& pipeline, const Origin& origin) {
    pipeline::VideoRequest request;
    request.size = size_of(settings);
    request.guidance = {settings.guidance_scale, settings.dynamic_cfg, !origin.sequential_guidance};
    load_conditions(settings, pipeline, origin.model, request);
    request.sampler =
        settings.sampler == "dpm" ? diffusion::SamplerKind::kDpm : diffusion::SamplerKind::kDdim;
    request.num_steps = settings.steps;
    request.prompt = embeddings.at(settings.prompt);
    if (request.guidance.runs()) {
        request.negative_prompt = embeddings.at(settings.negative_prompt);
    }
    return request;
}

/// [T, H, W, 3] uint8.
at::Tensor make_frames(const Work& video, pipeline::VideoPipeline& pipeline,
                       const Embeddings& embeddings, const Origin& origin) {
    const VideoSettings& settings = video.job->settings;
    log::Progress progress(video.files.stem().filename().string(), settings.steps);
    const auto done = [&](std::int64_t steps) {
        progress.update(steps);
        if (const auto signal = stop_signal()) {
            throw Stopped{*signal};
        }
    };
    const at::Tensor frames =
        pipeline.generate(request_of(settings, embeddings, pipeline, origin),
                          pipeline::keyed_draws(static_cast<std::uint64_t>(settings.seed)), done);
    return pipeline::to_bytes(frames);
}

}  // namespace

void make_videos(const std::vector<Job>& jobs, pipeline::VideoPipeline& pipeline,
                 const Origin& origin, bool resume, const std::function<void(const Made&)>& tell) {
    const json adapter = adapter_record(origin);
    const std::string model = fingerprint(origin.model);
    std::vector<Work> work;
    std::vector<std::string> faults;
    for (const Job& job : jobs) {
        try {
            Work video{&job, OutputFiles(job.settings),
                       record_of(job.settings, origin, model, adapter)};
            video.is_there = resume && video.files.are_made_from(video.record);
            work.push_back(std::move(video));
        } catch (const RunError& error) {
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
        }
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
    check_files(work, pipeline, origin.model);
    const Embeddings embeddings = encode_prompts(work, pipeline, origin.model);
    for (const Work& video : work) {
        if (const auto signal = stop_signal()) {
            throw Stopped{*signal};
        }
        if (video.is_there) {
            tell({video.files.paths(), 0.0, true});
            continue;
        }
        const auto began = std::chrono::steady_clock::now();
        const at::Tensor frames = make_frames(video, pipeline, embeddings, origin);
        video.files.write(frames, *video.job->settings.fps, video.record);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
        tell({video.files.paths(), seconds.count(), false});
    }
}

}  // namespace matrix::cli::generate
