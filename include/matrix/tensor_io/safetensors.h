#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace matrix::tensor_io {

/// Named tensors in the order of their names, and the header's `__metadata__` strings.
using TensorMap = std::map<std::string, at::Tensor>;
using Metadata = std::map<std::string, std::string>;

/// One safetensors file, mapped and checked before any tensor is handed out: header size, JSON,
/// duplicate keys, dtypes, overflow-safe shape products, spans that tile the data exactly. Every
/// fault is a RunError naming file and tensor. Tensors are views of a private mapping (copied only
/// where misaligned) and keep it alive.
class SafetensorsFile {
public:
    explicit SafetensorsFile(const std::filesystem::path& path);
    ~SafetensorsFile();
    SafetensorsFile(SafetensorsFile&&) noexcept;
    SafetensorsFile& operator=(SafetensorsFile&&) noexcept;

    [[nodiscard]] const std::filesystem::path& path() const;
    [[nodiscard]] std::vector<std::string> keys() const;
    [[nodiscard]] bool contains(const std::string& key) const;
    /// RunError if there is no such tensor.
    [[nodiscard]] at::Tensor tensor(const std::string& key) const;
    [[nodiscard]] std::vector<std::int64_t> shape(const std::string& key) const;
    [[nodiscard]] at::ScalarType dtype(const std::string& key) const;
    [[nodiscard]] const Metadata& metadata() const;
    [[nodiscard]] TensorMap all() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Writes atomically (core/files.h); tensors are moved to the CPU and made contiguous one at a
/// time. Data is aligned: wide types first, header padded to 8 bytes.
void write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                       const Metadata& metadata = {});

}  // namespace matrix::tensor_io
