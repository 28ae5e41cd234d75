#pragma once

#include <map>
#include <string>
#include <vector>

#include "matrix/lora/export.h"
#include "matrix/tensor_io/safetensors.h"

namespace matrix::lora {

struct AdapterFile {
    tensor_io::TensorMap tensors;
    tensor_io::Metadata metadata;
};

/// An adapter directory before it is written.
struct AdapterFiles {
    std::map<std::string, AdapterFile> files;  ///< safetensors, by name
    std::map<std::string, std::string> texts;  ///< other files but the manifest and the card
    std::vector<std::string> notes;            ///< what the format cannot hold; one line each
};

/// The files of an adapter of one rank whose strength is folded into B (scale 1).
[[nodiscard]] AdapterFiles files_of(const Adapter& folded, Format format);

}  // namespace matrix::lora
