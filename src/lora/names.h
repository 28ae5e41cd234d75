#pragma once

#include <array>
#include <cstddef>
#include <string>

// Names on disk. A linear is called as in the model's checkpoint, without ".weight".

namespace matrix::lora {

/// Longest name of a linear that is read.
inline constexpr std::size_t kLongestLinear = 255;

inline constexpr const char* kProjection = "patch_embed.proj";

inline constexpr const char* kCheckpointFile = "adapter.safetensors";
inline constexpr const char* kManifestFile = "matrix_adapter.json";
inline constexpr const char* kCardFile = "README.md";

// The LoRA file of each format.
inline constexpr const char* kStockFile = "pytorch_lora_weights.safetensors";
inline constexpr const char* kPeftFile = "adapter_model.safetensors";
inline constexpr const char* kPeftConfigFile = "adapter_config.json";
inline constexpr const char* kKohyaFile = "matrix_lora_kohya.safetensors";
inline constexpr const char* kComfyuiFile = "matrix_lora_comfyui.safetensors";
inline constexpr std::array<const char*, 4> kLoraFiles = {kStockFile, kPeftFile, kKohyaFile,
                                                          kComfyuiFile};

// What is beside it.
inline constexpr const char* kProjectionFile = "input_projection.safetensors";
inline constexpr const char* kIdMapFile = "id_map_lora.safetensors";
inline constexpr const char* kProjectionLoraFile = "projection_lora.safetensors";
inline constexpr std::array<const char*, 3> kSidecarFiles = {kProjectionLoraFile, kIdMapFile,
                                                             kProjectionFile};

inline std::string weight_key(const std::string& linear) {
    return "transformer." + linear + ".weight";
}
inline std::string bias_key(const std::string& linear) {
    return "transformer." + linear + ".bias";
}
inline std::string a_key(const std::string& linear) {
    return "transformer." + linear + ".lora_A.weight";
}
inline std::string b_key(const std::string& linear) {
    return "transformer." + linear + ".lora_B.weight";
}

}  // namespace matrix::lora
