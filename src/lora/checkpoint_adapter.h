#pragma once

#include "matrix/lora/adapter.h"

namespace matrix::lora {

/// Whether a file's header is that of `write_checkpoint_adapter`.
[[nodiscard]] bool is_checkpoint_adapter(const tensor_io::SafetensorsFile& file);

/// What such a file holds but for the heads.
[[nodiscard]] Adapter read_checkpoint_adapter(const tensor_io::SafetensorsFile& file);

}  // namespace matrix::lora
