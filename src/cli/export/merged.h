#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "matrix/lora/export.h"

namespace matrix::cli {

struct MergedOptions {
    std::filesystem::path base;           ///< Hugging Face directory of the model
    std::int64_t in_channels = 0;         ///< of the merged model
    std::optional<at::ScalarType> dtype;  ///< of all tensors; each its own if not given
    std::string card;                     ///< README.md
    /// Sees the finished transformer directory before it gets its name; what it throws undoes the
    /// export.
    std::function<void(const std::filesystem::path& directory)> inspect;
};

/// RunError if `out` is anything but an empty directory.
void check_free(const std::filesystem::path& out);

/// Writes the base's transformer with the adapter merged in as `out`, a directory that
/// `CogVideoXTransformer3DModel.from_pretrained` opens: config.json and weights in one file, or in
/// shards of at most 5 GB. Tensor by tensor from the mapped base: one of them is in memory at a
/// time. Written under a temporary name, read back tensor by tensor and compared, then renamed. The
/// adapter has to fit the base. RunError if `out` is anything but an empty directory, or if a value
/// is not finite in `dtype` (names the tensor). The report's differences are those of the weights
/// that changed from W + scale B A; a note says where rounding takes more than a tenth of a change.
/// Stopped after a signal, with nothing left behind.
lora::ExportReport export_merged(const lora::Adapter& adapter, const std::filesystem::path& out,
                                 const MergedOptions& options);

}  // namespace matrix::cli
