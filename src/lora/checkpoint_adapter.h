#pragma once

#include "matrix/lora/adapter.h"

namespace matrix::lora {

/// Whether a file's header is that of `write_checkpoint_adapter`.
[[nodiscard]] bool is_checkpoint_adapter(const tensor_io::SafetensorsFile& file);

/// What such a file holds but for the heads.
[[nodiscard]] Adapter read_checkpoint_adapter(const tensor_io::SafetensorsFile& file);

/// Weight and bias of the input projection under the keys given, if there, in float32. RunError for
/// one without the other's shape.
void read_projection(const tensor_io::SafetensorsFile& file, const std::string& weight,
                     const std::string& bias, Adapter& adapter);

}  // namespace matrix::lora
