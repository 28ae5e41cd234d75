#pragma once

#include <optional>
#include <string>

// How tools name the tensors of a LoRA. Every dialect is a prefix, a spelling of the linear's name
// and an ending for the role of the tensor; docs/formats.md has the table.

namespace matrix::lora {

enum class Dialect {
    kDiffusers,     ///< transformer.LINEAR.lora_A.weight
    kOldDiffusers,  ///< transformer.LINEAR.lora.down.weight
    kPeft,          ///< base_model.model.LINEAR.lora_A.weight
    kKohya,         ///< lora_unet__LI_NE_AR.lora_down.weight, of CogVideoX-Fun
    kMusubi,        ///< lora_unet_LI_NE_AR.lora_down.weight
    kComfyui,       ///< diffusion_model.CORE.lora_A.weight
    kComfyuiDown,   ///< diffusion_model.CORE.lora_down.weight
};

enum class Role { kA, kB, kAlpha, kWeight, kBias };

struct LoraKey {
    Dialect dialect;
    std::string linear;  ///< as in the model's checkpoint
    Role role;
};

/// What `key` names, or nothing if it is a key of no dialect. Whole weights (kWeight, kBias) are
/// known of the input projection alone: peft's modules_to_save, and ComfyUI's set_weight.
[[nodiscard]] std::optional<LoraKey> parse_key(const std::string& key);

/// The key of `linear` in a dialect. RunError if the dialect has no name for it.
[[nodiscard]] std::string dialect_key(Dialect dialect, const std::string& linear, Role role);

/// Whether tools train a LoRA of `linear` that this program does not apply: ff.*, norm*.linear,
/// proj_out and so on.
[[nodiscard]] bool of_other_programs(const std::string& linear);
/// The message for one.
[[nodiscard]] std::string not_applied_text(const std::string& linear);

/// "diffusers", "kohya" and so on, for messages.
[[nodiscard]] const char* dialect_name(Dialect dialect);

}  // namespace matrix::lora
