#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/pictures/attention_maps.h"
#include "cli/pictures/clips.h"
#include "cli/pictures/floors.h"
#include "cli/pictures/history.h"
#include "cli/run_config.h"
#include "cli/tensorboard_observer.h"
#include "matrix/data_cache/sample.h"
#include "matrix/train/observer.h"
#include "matrix/train/trainer.h"

namespace matrix::cli::pictures {

/// Fills <run>/pictures: curves.png at every checkpoint and validation and at the end; the
/// attention of a few clips before the first step (before.safetensors and, with validation,
/// before.json, which a resumed run finds there) and after the last, as overlay sheets; the check
/// that words matter; summary.png. At validation.overlays.every_steps the sheets of held-out clips
/// as they stand, in step-00000500/ and as images in TensorBoard. Rank 0 alone draws; the others
/// take part in its validation.
class PicturesObserver final : public train::StepObserver {
public:
    /// Everything given must outlive the observer; `held_out` may be null. `board` gets the
    /// images; null on ranks that do not draw.
    PicturesObserver(const RunConfig& config, const train::RunParts& parts,
                     const data_cache::SampleSource* held_out, TensorBoardObserver* board)
        : config_(config), parts_(parts), held_out_(held_out), board_(board) {}

    void at_start(std::int64_t step) override;
    void after_step(std::int64_t step, nlohmann::json& record, const nlohmann::json&) override;
    void at_end(std::int64_t step) override;

private:
    [[nodiscard]] std::filesystem::path directory() const;
    [[nodiscard]] std::filesystem::path scores_before() const;
    void score_start(std::int64_t step);
    void add_clips(const data_cache::SampleSource& samples, const data_cache::DataConfig& data,
                   const std::string& set);
    [[nodiscard]] std::filesystem::path maps_before() const;
    /// Of the clips of one set, or of all.
    [[nodiscard]] MapsByClip maps_of_clips(const std::string& set = "") const;
    [[nodiscard]] std::int64_t samples_per_step() const;
    void write_curves() const;
    /// What a resumed run or a change of terms has no maps of from step 0 is passed over.
    using DrawnSheet = std::function<void(const PictureClip&, const char* what, const at::Tensor&)>;
    void draw_sheets(const MapsByClip& before, const MapsByClip& after,
                     const DrawnSheet& drawn) const;
    void write_overlays_of(std::int64_t step) const;
    void write_overlays(const MapsByClip& before, const MapsByClip& after) const;
    void write_word_check() const;

    const RunConfig& config_;
    const train::RunParts& parts_;
    const data_cache::SampleSource* held_out_;
    TensorBoardObserver* board_;
    History history_;
    Floors floors_;
    std::vector<PictureClip> clips_;
};

}  // namespace matrix::cli::pictures
