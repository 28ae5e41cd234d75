#include "cli/generate/settings.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <map>
#include <sstream>

#include "cli/generate/output_files.h"
#include "cli/generate/perturbation.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"

namespace matrix::cli::generate {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxPixels = 8192;  // of a side

bool is_blank(const std::string& text) {
    return text.find_first_not_of(" \t\r") == std::string::npos;
}

std::optional<std::string> below(const fs::path& directory,
                                 const std::optional<std::string>& file) {
    return file ? std::optional((directory / *file).string()) : std::nullopt;
}

/// Whether a path stays in the directory that it is relative to.
bool stays_inside(const fs::path& path) {
    const fs::path normal = path.lexically_normal();
    return !path.is_absolute() && !normal.empty() && *normal.begin() != "..";
}

std::string numbered(std::size_t line) {
    char name[32];
    std::snprintf(name, sizeof name, "%06zu.mp4", line);
    return name;
}

/// The job of one line; faults are appended.
Job read_row(const std::string& line, const std::string& where, std::size_t number,
             const VideoSettings& defaults, const fs::path& source, const fs::path& directory,
             std::vector<std::string>& faults) {
    Job job{where, defaults};
    job.settings.out = numbered(number);
    // Of the command line, and so relative to where the command runs.
    job.settings.image.reset();
    job.settings.id_map.reset();
    job.settings.mask_tracks.reset();
    nlohmann::json row = parse_json(line, where);
    if (!row.is_object()) {
        throw UsageError(where + ": a JSON object was expected");
    }
    if (row.contains("interactions") && row["interactions"].is_array()) {
        row["interactions"] = row["interactions"].dump();
    }
    std::vector<std::string> found;
    fields(job.settings).read(row, found);
    for (const std::string& fault : found) {
        faults.push_back(where + ": " + fault);
    }
    if (!stays_inside(job.settings.out)) {
        faults.push_back(where + ": out: \"" + job.settings.out +
                         "\" is not a path below the output directory");
    }
    job.settings.out = (directory / job.settings.out).string();
    job.settings.image = below(source, job.settings.image);
    job.settings.id_map = below(source, job.settings.id_map);
    job.settings.mask_tracks = below(source, job.settings.mask_tracks);
    if (!row.contains("image")) {
        job.settings.image = defaults.image;
    }
    if (!row.contains("id_map")) {
        job.settings.id_map = defaults.id_map;
    }
    if (!row.contains("mask_tracks")) {
        job.settings.mask_tracks = defaults.mask_tracks;
    }
    return job;
}

/// What goes into a record has to be text.
void check_text(const VideoSettings& settings, std::vector<std::string>& faults) {
    VideoSettings copy = settings;
    const nlohmann::json said = fields(copy).write();
    for (const auto& [name, value] : said.items()) {
        try {
            static_cast<void>(value.dump());
        } catch (const nlohmann::json::exception&) {
            faults.push_back(name + ": is not valid UTF-8");
        }
    }
}

void check_conditions(const VideoSettings& settings, const pipeline::VideoPipeline& pipeline,
                      std::vector<std::string>& faults) {
    if (is_blank(settings.prompt)) {
        faults.emplace_back("prompt: is missing");
    }
    if (!settings.image && pipeline.takes_image()) {
        faults.emplace_back("image: is missing, and the model makes videos from one");
    }
    if (settings.image && !pipeline.takes_image()) {
        faults.emplace_back("image: the model makes videos from text alone");
    }
    if (settings.id_map && !pipeline.takes_id_map()) {
        faults.emplace_back(
            "id_map: the model has no channels for it; an adapter that was trained "
            "with data.id_map brings them");
    }
    const std::int64_t limit = pipeline.scheduler().num_train_timesteps;
    if (settings.steps > limit) {
        faults.push_back("steps: " + std::to_string(settings.steps) + " is outside 1.." +
                         std::to_string(limit));
    }
}

void fill_in(VideoSettings& settings, const pipeline::VideoPipeline& pipeline) {
    const pipeline::VideoSize size = pipeline::default_size(pipeline.rules());
    settings.frames = settings.frames.value_or(size.num_frames);
    settings.height = settings.height.value_or(size.height_px);
    settings.width = settings.width.value_or(size.width_px);
    settings.fps = settings.fps.value_or(pipeline::default_fps(pipeline.rules()));
    if (!settings.sampler) {
        const auto kind = diffusion::sampler_of(pipeline.scheduler());
        settings.sampler = kind == diffusion::SamplerKind::kDpm ? "dpm" : "ddim";
    }
}

}  // namespace

FieldTable fields(VideoSettings& s) {
    FieldTable t;
    t.add("prompt", s.prompt, "What happens in the video.");
    t.add("negative_prompt", s.negative_prompt, "What guidance leads away from.");
    t.add("image", s.image, "First frame, an image file.");
    t.add("id_map", s.id_map, "Who is who in the first frame: a colour image, or masks by ID.");
    t.add("out", s.out, "File to write.");
    t.add("formats", s.formats, "What to write.").one_of({"mp4", "gif", "png"});
    t.add("seed", s.seed, "Equal seeds give equal videos on one device.").range(0);
    t.add("frames", s.frames, "Frames.").range(1, 100000);
    t.add("height", s.height, "Height in pixels.").range(1, kMaxPixels);
    t.add("width", s.width, "Width in pixels.").range(1, kMaxPixels);
    t.add("fps", s.fps, "Frames per second of what is written.").range(0.1, 100);
    t.add("steps", s.steps, "Denoising steps.").range(1, 100000);
    t.add("sampler", s.sampler, "Sampler.").one_of({"ddim", "dpm"});
    t.add("guidance_scale", s.guidance_scale, "Scale of classifier-free guidance; none up to 1.")
        .range(-1000, 1000);
    t.add("dynamic_cfg", s.dynamic_cfg, "A guidance scale that follows the timestep.");
    t.add("guidance", s.guidance, "Training-free guidance.").one_of({"cmg", "cag"});
    t.add("cmg_blocks", s.cmg_blocks, "Blocks that cmg perturbs.").range(0);
    t.add("cag_blocks", s.cag_blocks, "Blocks that cag perturbs.").range(0);
    t.add("perturbation_scale", s.perturbation_scale, "Scale of the training-free guidance.")
        .range(-1000, 1000);
    t.add("interactions", s.interactions, "Which words are subject, verb and object.");
    t.add("mask_tracks", s.mask_tracks, "Masks by ID and frame, a directory.");
    return t;
}

std::vector<Job> read_batch(const fs::path& path, const VideoSettings& defaults,
                            const fs::path& directory) {
    std::vector<Job> jobs;
    std::vector<std::string> faults;
    std::istringstream text(read_text_file(path));
    std::string line;
    for (std::size_t number = 1; std::getline(text, line); ++number) {
        if (is_blank(line)) {
            continue;
        }
        const std::string where = path.string() + ":" + std::to_string(number);
        try {
            jobs.push_back(
                read_row(line, where, number, defaults, path.parent_path(), directory, faults));
        } catch (const Error& error) {
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
        }
    }
    if (jobs.empty() && faults.empty()) {
        faults.push_back(path.string() + ": has no rows");
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
    return jobs;
}

void resolve(std::vector<Job>& jobs, const pipeline::VideoPipeline& pipeline) {
    std::vector<std::string> faults;
    std::map<fs::path, std::string> taken;
    for (Job& job : jobs) {
        fill_in(job.settings, pipeline);
        std::vector<std::string> found = check_size(size_of(job.settings), pipeline.rules());
        check_text(job.settings, found);
        check_conditions(job.settings, pipeline, found);
        resolve_perturbation(job.settings, pipeline.rules(), found);
        try {
            const OutputFiles files(job.settings);
            const auto [other, added] = taken.emplace(files.stem(), job.where);
            if (!added) {
                found.push_back("out: " + job.settings.out + " is that of " + other->second +
                                " too");
            }
        } catch (const UsageError& error) {
            found.insert(found.end(), error.faults().begin(), error.faults().end());
        }
        for (const std::string& fault : found) {
            faults.push_back((job.where.empty() ? "" : job.where + ": ") + fault);
        }
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
}

pipeline::VideoSize size_of(const VideoSettings& settings) {
    return {*settings.frames, *settings.height, *settings.width};
}

}  // namespace matrix::cli::generate
