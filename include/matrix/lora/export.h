#pragma once

#include "matrix/lora/adapter.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace matrix::lora {

/// Formats of an adapter directory; docs/formats.md says what each holds.
enum class Format {
    kDiffusers,  ///< `load_lora_weights`
    kPeft,       ///< `PeftModel.from_pretrained`
    kKohya,      ///< CogVideoX-Fun, ComfyUI-CogVideoXWrapper
    kComfyui,    ///< ComfyUI's own CogVideoX
};

/// "diffusers", "peft", "kohya", "comfyui".
[[nodiscard]] std::vector<std::string> format_names();
[[nodiscard]] std::string format_name(Format format);
[[nodiscard]] std::optional<Format> find_format(const std::string& name);

struct ExportOptions {
    Format format = Format::kDiffusers;
    /// Of the low-rank factors: float32, bfloat16 or float16. The whole input projection stays
    /// float32.
    at::ScalarType dtype = at::ScalarType::Float;
    /// `README.md` from the files that were written ("adapter_model.safetensors", ...), or none.
    std::function<std::string(const std::vector<std::string>& files)> card = {};
    /// Sees what was written as read back, before it gets its name; what it throws undoes the
    /// export.
    std::function<void(const Adapter& read)> inspect = {};
};

struct ExportReport {
    /// Of scale B A before and after, over all linears.
    double largest_difference = 0.0;
    /// The same over the largest value of the linear's scale B A; the worst linear's.
    double relative_difference = 0.0;
    /// What the format cannot hold, and where it is instead; one line each.
    std::vector<std::string> notes;
};

/// The largest `relative_difference` that an export may have: 1e-4 in float32, 1e-2 in float16,
/// 3e-2 in bfloat16. Rounding factors of random signs gives about 1e-7, 5e-4 and 4e-3; more means
/// factors that cancel each other, or a fault.
[[nodiscard]] double export_tolerance(at::ScalarType dtype);

/// The refusals of `export_adapter` that need nothing written: what stands at `directory`, values
/// that are not finite in the dtype, linears that the format has no name for.
void check_export(const Adapter& adapter, const std::filesystem::path& directory,
                  const ExportOptions& options);

/// Writes an adapter directory: the LoRA file of the format (none without deltas) with the strength
/// folded into B in float32 and only then cast, smaller ranks filled up with zeros and alpha = r;
/// the sidecars for the input projection; the manifest. Of a projection's LoRA under an ID map the
/// LoRA file has the columns of the other two thirds of the channels. Written under a temporary
/// name, read back and compared, then renamed. Replaces an earlier export or an empty directory.
/// RunError if anything else is there, if a value is not finite in `dtype` (names the tensor), if
/// the format has no name for a linear, or if the difference is above the tolerance.
ExportReport export_adapter(const Adapter& adapter, const std::filesystem::path& directory,
                            const ExportOptions& options = {});

}  // namespace matrix::lora
