#include "cli/pictures/pictures_observer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "cli/pictures/about_run.h"
#include "cli/pictures/curves.h"
#include "cli/pictures/overlay_sheet.h"
#include "cli/pictures/summary.h"
#include "cli/pictures/swapped_roles.h"
#include "cli/sample_source.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"
#include "matrix/log/log.h"
#include "matrix/media/image.h"
#include "matrix/models/cogvideox.h"
#include "matrix/prepare/encoders.h"
#include "matrix/train/checkpoint.h"
#include "matrix/train/validation.h"

namespace matrix::cli::pictures {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kClipsOfEachSet = 2;

std::string sheet_name(const PictureClip& clip, const std::string& what) {
    return "attention-" + clip.set + "-" + clip.stem + "-" + what + ".png";
}

bool has_weights(const fs::path& directory) {
    std::error_code ignored;
    const auto files = fs::directory_iterator(directory, ignored);
    return std::any_of(begin(files), end(files), [](const fs::directory_entry& entry) {
        return entry.path().extension() == ".safetensors";
    });
}

}  // namespace

fs::path PicturesObserver::directory() const {
    return fs::path(config_.output) / "pictures";
}

fs::path PicturesObserver::scores_before() const {
    return directory() / "before.json";
}

std::int64_t PicturesObserver::samples_per_step() const {
    return config_.train.batch_size * config_.train.gradient_accumulation *
           parts_.ranks.num_replicas();
}

fs::path PicturesObserver::maps_before() const {
    return directory() / "before.safetensors";
}

MapsByClip PicturesObserver::maps_of_clips(const std::string& set) const {
    MapsByClip maps;
    for (const PictureClip& clip : clips_) {
        if (set.empty() || clip.set == set) {
            maps[map_key(clip)] = read_maps(parts_, config_.alignment, clip.batch);
        }
    }
    return maps;
}

/// The scores before training belong into the curves, and no step's record has them.
void PicturesObserver::score_start(std::int64_t step) {
    if (step != 0 || config_.validation.every_steps == 0) {
        return;
    }
    const nlohmann::json scores = train::validate_sets(parts_, config_.alignment, held_out_);
    if (parts_.ranks.is_main()) {
        write_file_atomically(scores_before(),
                              nlohmann::json{{"step", 0}, {"validation", scores}}.dump() + "\n");
    }
}

/// A run that trains from a copied cache is none the worse for videos that are not here, or not
/// whole.
void PicturesObserver::add_clips(const data_cache::SampleSource& samples,
                                 const data_cache::DataConfig& data, const std::string& set) {
    try {
        std::ranges::move(choose_clips(samples, data, parts_.rules, set, kClipsOfEachSet),
                          std::back_inserter(clips_));
    } catch (const RunError& error) {
        log::warning("pictures: no attention overlays of " + data.path + ": " + error.what());
    }
}

void PicturesObserver::at_start(std::int64_t step) {
    score_start(step);
    if (!parts_.ranks.is_main()) {
        return;
    }
    fs::create_directories(directory());
    floors_ = measure_floors(parts_, config_.alignment);
    history_ = {};
    history_.read({scores_before(), fs::path(config_.output) / "metrics.jsonl"});
    clips_.clear();
    if (!config_.alignment.sga && !config_.alignment.spa) {
        return;
    }
    if (parts_.ranks.forward_together()) {
        log::info("pictures: no attention overlays where ranks share the base or a clip's rows");
        return;
    }
    add_clips(parts_.samples, config_.data, "train");
    if (held_out_ != nullptr) {
        add_clips(*held_out_, held_out_data(config_), "heldout");
    }
    if (step == 0 && !clips_.empty()) {
        save_maps(maps_before(), maps_of_clips());
    }
}

void PicturesObserver::after_step(std::int64_t step, nlohmann::json& record,
                                  const nlohmann::json&) {
    if (!parts_.ranks.is_main()) {
        return;
    }
    history_.add(record);
    const std::int64_t every = config_.checkpoint.every_steps;
    if (record.contains("validation") || (every > 0 && step % every == 0)) {
        write_curves();
    }
    const std::int64_t overlays = config_.validation.overlays.every_steps;
    if (overlays > 0 && step % overlays == 0) {
        write_overlays_of(step);
    }
}

void PicturesObserver::at_end(std::int64_t) {
    if (!parts_.ranks.is_main()) {
        return;
    }
    write_curves();
    if (clips_.empty() || !fs::exists(maps_before())) {
        return;
    }
    const MapsByClip before = load_maps(maps_before()), after = maps_of_clips();
    write_overlays(before, after);
    write_word_check();
    log::info("pictures written to " + directory().string());
}

void PicturesObserver::write_curves() const {
    if (!history_.empty()) {
        media::write_png(directory() / "curves.png",
                         draw_curves(history_, floors_, samples_per_step(), about_run(config_)));
    }
}

void PicturesObserver::draw_sheets(const MapsByClip& before, const MapsByClip& after,
                                   const DrawnSheet& drawn) const {
    for (const PictureClip& clip : clips_) {
        const auto start = before.find(map_key(clip)), end = after.find(map_key(clip));
        if (start == before.end() || end == after.end() ||
            start->second.words.defined() != end->second.words.defined() ||
            start->second.tracks.defined() != end->second.tracks.defined()) {
            continue;
        }
        const auto draw = [&](const at::Tensor& maps, MapKind kind, const char* what) {
            if (maps.defined()) {
                drawn(clip, what,
                      overlay_sheet(clip, start->second, end->second, kind, about_run(config_)));
            }
        };
        draw(end->second.words, MapKind::kWords, "words");
        draw(end->second.tracks, MapKind::kTracks, "tracks");
    }
}

void PicturesObserver::write_overlays_of(std::int64_t step) const {
    if (clips_.empty() || !fs::exists(maps_before())) {
        return;
    }
    const fs::path to = directory() / train::checkpoint_directory(config_.output, step).filename();
    fs::create_directories(to);
    const bool held_out =
        std::ranges::any_of(clips_, [](const PictureClip& clip) { return clip.set == "heldout"; });
    draw_sheets(load_maps(maps_before()), maps_of_clips(held_out ? "heldout" : "train"),
                [&](const PictureClip& clip, const char* what, const at::Tensor& sheet) {
                    media::write_png(to / sheet_name(clip, what), sheet);
                    board_->add_image(step,
                                      {"attention/" + map_key(clip) + "/" + what, sheet.size(0),
                                       sheet.size(1), media::encode_jpeg(sheet)});
                });
}

void PicturesObserver::write_overlays(const MapsByClip& before, const MapsByClip& after) const {
    const PictureClip* shown = nullptr;
    draw_sheets(before, after,
                [&](const PictureClip& clip, const char* what, const at::Tensor& sheet) {
                    media::write_png(directory() / sheet_name(clip, what), sheet);
                    if (shown == nullptr || shown->set == "train") {
                        shown = &clip;  // the first held-out clip, else a training clip
                    }
                });
    if (shown != nullptr) {
        media::write_png(
            directory() / "summary.png",
            draw_summary(history_, floors_, samples_per_step(), *shown, before.at(map_key(*shown)),
                         after.at(map_key(*shown)), about_run(config_)));
    }
}

void PicturesObserver::write_word_check() const {
    const fs::path model = config_.model.path;
    if (!config_.alignment.sga) {
        return;
    }
    if (!has_weights(model / "text_encoder") || !fs::exists(model / "tokenizer")) {
        log::info("pictures: no text encoder at " + model.string() +
                  ", so no check with swapped prompts");
        return;
    }
    const text::T5Tokenizer tokenizer(model / "tokenizer");
    // On the CPU whatever the run is on: the encoder is the largest part of a model, and a GPU may
    // be full.
    const prepare::Encode encode =
        prepare::model_encoders(model, parse_compute_dtype(config_.model.dtype, "model.dtype"),
                                at::kCPU)
            .load_text();
    std::vector<WordCheck> checks;
    for (const PictureClip& clip : clips_) {
        checks.push_back(check_words(clip, parts_, config_.alignment, tokenizer, encode));
    }
    media::write_png(directory() / "words-matter.png",
                     word_check_sheet(clips_, checks, about_run(config_)));
}

}  // namespace matrix::cli::pictures
