#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "matrix/lora/adapter.h"

namespace matrix::lora {

/// `matrix_adapter.json` of an adapter directory.
struct Manifest {
    std::string format = "diffusers";  ///< the dialect of the LoRA file; not written for this one
    std::vector<std::string> files;    ///< safetensors files beside it
    AdapterInfo info;                  ///< alpha = rank: the files have the strength folded in
};

[[nodiscard]] std::string manifest_text(const Manifest& manifest);

/// RunError naming the file and its field for unknown or missing fields, other types, another
/// format version, a file name that no adapter directory has.
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& path);

}  // namespace matrix::lora
