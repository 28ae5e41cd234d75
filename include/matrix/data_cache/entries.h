#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/tensor_io/safetensors.h"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

// One entry is one safetensors file, <cache>/<kind>/<key>.safetensors. T frames of H x W pixels, F
// = (T - 1) / 4 + 1, h = H / 8, w = W / 8, gh = H / 16, gw = W / 16, C latent channels, J image
// versions, n IDs.
//
//   videos    video_moments [2C, F, h, w], image_clean_moments [2C, 1, h, w], image_moments [J, 2C,
//   1, h, w]  float32 masks     ids [n] int64, pixels [n] int64 (set pixels of the whole track),
//   tracks [n, T, H * W / 8] uint8 (bits,
//             lowest first), query_half and query_nearest [n, gh, gw] uint8
//   id_maps   id_map_mean [C, 1, h, w]  float32
//   prompts   prompt [L, D_t]  float32 or bfloat16

namespace matrix::data_cache {

enum class EntryKind { kVideo, kMasks, kIdMap, kPrompt };

[[nodiscard]] std::filesystem::path entry_path(const std::filesystem::path& cache, EntryKind kind,
                                               const std::string& key);

/// Writes an entry, complete or not at all, with a checksum of its tensors and `notes` in its
/// header: "fps", a video's own average rate. The folder is made if need be.
void write_entry(const std::filesystem::path& cache, EntryKind kind, const std::string& key,
                 const tensor_io::TensorMap& tensors, tensor_io::Metadata notes = {});

/// Deletes what killed processes were writing: temporary files that nobody has touched for a day.
void remove_abandoned(const std::filesystem::path& cache);

/// Maps an entry: RunError naming the file if it is missing, truncated, of another kind, or if a
/// tensor is missing or has another dtype or shape than `config` asks for.
[[nodiscard]] tensor_io::SafetensorsFile open_entry(const std::filesystem::path& cache,
                                                    EntryKind kind, const std::string& key,
                                                    const DataConfig& config);

/// Reads every byte: RunError naming the file if its tensors do not match its checksum.
void check_content(const tensor_io::SafetensorsFile& entry);

/// Whether `open_entry` would succeed.
[[nodiscard]] bool has_entry(const std::filesystem::path& cache, EntryKind kind,
                             const std::string& key, const DataConfig& config);

/// The `doctor` of a cache: reads every byte of every entry of the index and compares checksums.
/// One line per fault.
[[nodiscard]] std::vector<std::string> verify_cache(const std::filesystem::path& cache);

/// [n, T, H, W] uint8 of zeros and ones to [n, T, H * W / 8] bits. H * W is a multiple of 8.
[[nodiscard]] at::Tensor pack_bits(const at::Tensor& masks);
/// The inverse for one track: [T, H * W / 8] into `out`, [T, H, W] uint8, contiguous.
void unpack_bits(const at::Tensor& track, const at::Tensor& out);

}  // namespace matrix::data_cache
