#include "cli/pictures/clips.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>

#include "matrix/data_source/clip.h"
#include "matrix/data_source/sample.h"
#include "matrix/log/log.h"
#include "matrix/train/validation.h"

namespace matrix::cli::pictures {
namespace {

namespace fs = std::filesystem;

void keep_first_interaction(train::Batch& batch) {
    alignment::Supervision& s = batch.supervision;
    s = {s.token_mask.narrow(1, 0, 1), s.query_mask.narrow(1, 0, 1), s.masks.narrow(1, 0, 1)};
}

/// Every one of the first interaction's three phrases has tokens, both tracks have pixels.
bool is_complete(const alignment::Supervision& s) {
    return s.masks.size(1) > 0 && s.token_mask[0][0].ne(0).any(1).all().item<bool>() &&
           s.masks[0][0].ne(0).flatten(1).any(1).all().item<bool>();
}

}  // namespace

at::Tensor to_frames(const at::Tensor& video) {
    return ((video + 1.0) * 127.5)
        .round()
        .clamp(0, 255)
        .to(at::kByte)
        .permute({1, 2, 3, 0})
        .contiguous();
}

at::Tensor PictureClip::track(std::int64_t entity) const {
    const at::Tensor tracks = batch.supervision.masks[0][0];  // [2, T, H, W]
    return entity < 2 ? tracks[entity] : tracks[0].bitwise_or(tracks[1]);
}

std::string PictureClip::phrase(std::int64_t entity) const {
    const data_source::Interaction& interaction = row.interactions.front();
    return entity == 0   ? interaction.subject.text
           : entity == 1 ? interaction.object->text
                         : interaction.verb.text;
}

std::string stem_of(const std::string& video) {
    std::string stem = fs::path(video).replace_extension().string();
    if (stem.starts_with("videos/")) {
        stem.erase(0, 7);
    }
    std::ranges::replace(stem, '/', '_');
    return stem;
}

std::string PictureClip::prompt() const {
    return data_source::prompt_text(row, data);
}

std::vector<PictureClip> choose_clips(const data_cache::SampleSource& samples,
                                      const data_cache::DataConfig& data,
                                      const train::BatchRules& rules, const std::string& set,
                                      std::size_t count) {
    std::vector<PictureClip> clips;
    if (!fs::exists(data.path)) {
        log::info("pictures: no videos at " + data.path +
                  ", so no attention overlays of these clips");
        return clips;
    }
    const data_source::Manifest manifest = data_source::read_manifest(data.path);
    for (const std::int64_t number : train::validation_rows(samples.size())) {
        train::Batch batch = train::validation_batch(samples, number, rules, kTimestep);
        const auto row =
            std::ranges::find(manifest.rows, batch.names.front(), &data_source::Row::video);
        if (row == manifest.rows.end() || !is_complete(batch.supervision) ||
            !row->interactions.front().object || !fs::exists(row->video_path)) {
            continue;
        }
        keep_first_interaction(batch);
        PictureClip clip{set, stem_of(row->video), data, *row, std::move(batch), {}};
        clip.row.interactions.resize(1);
        clip.frames = to_frames(data_source::load_clip(*row, data, {true, false, false}).video);
        clips.push_back(std::move(clip));
        if (clips.size() == count) {
            break;
        }
    }
    return clips;
}

}  // namespace matrix::cli::pictures
