#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "eval/json_reading.h"
#include "matrix/eval/layout.h"

// What an overlay was drawn from, as eval_metas/NNN.json tells: the fields of the published file,
// and `drawn_from` once there is a drawing.

namespace matrix::eval {

[[nodiscard]] std::filesystem::path overlay_record(const Layout& layout, const std::string& model,
                                                   const std::string& type, const std::string& id);

/// id1, or <id1> as in a data set's mask_annotation.
[[nodiscard]] std::filesystem::path track_folder(const std::filesystem::path& tracks,
                                                 std::size_t index);

/// By "video", "id1", ...: a hash of names, sizes and times of change; null for what is not there.
[[nodiscard]] Json sources_of(const std::filesystem::path& video,
                              const std::filesystem::path& tracks, std::size_t num_entities);

/// Why an overlay is no picture of the scenario and its files, if it is none. Files that are gone
/// are passed over; an overlay from elsewhere, which has no record, is only held against their
/// times, where it could be drawn anew.
[[nodiscard]] std::optional<std::string> why_outdated(const Layout& layout,
                                                      const std::string& model,
                                                      const std::string& type,
                                                      const Scenario& scenario);

}  // namespace matrix::eval
