#pragma once

#include "cli/pictures/attention_maps.h"
#include "cli/pictures/clips.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

// Every map is shown standardised (attention_maps.h) on one heat scale over the grey frame, with
// the outline of the mask track that it should find.

namespace matrix::cli::pictures {

/// The pixel frame that stands for latent frame k.
[[nodiscard]] std::int64_t pixel_frame(std::int64_t latent_frame);

/// The legend of the heat scale, for captions.
[[nodiscard]] std::string heat_legend();

/// One frame of a clip with and without a map, all of one width.
class Panel {
public:
    Panel(const PictureClip& clip, std::int64_t latent_frame, std::int64_t width_px);

    [[nodiscard]] at::Tensor frame() const { return frame_; }
    /// The frame with the entity's mask tinted.
    [[nodiscard]] at::Tensor mask(std::int64_t entity) const;
    /// `map` [F, gh, gw], standardised.
    [[nodiscard]] at::Tensor attention(const at::Tensor& map, std::int64_t entity) const;

private:
    std::int64_t latent_frame_;
    at::Tensor frame_;               // [h, w, 3] uint8
    std::vector<at::Tensor> masks_;  // [h, w] uint8: subject, object, both
};

/// Which of the two supervised kinds of maps.
enum class MapKind { kWords, kTracks };

/// Phrases (of tracks: instances) by frames downwards; frame, mask, before and after to the right.
/// `lines`: what the head of the sheet says of the run.
[[nodiscard]] at::Tensor overlay_sheet(const PictureClip& clip, const ClipMaps& before,
                                       const ClipMaps& after, MapKind kind,
                                       const std::string& lines);

/// "0.91", or "-" for NaN.
[[nodiscard]] std::string score_text(double score);

}  // namespace matrix::cli::pictures
