#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
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

/// A tensor that is made only when it is written.
struct PlannedTensor {
    std::string key;
    at::ScalarType dtype;
    std::vector<std::int64_t> shape;

    [[nodiscard]] std::uint64_t bytes() const;
};
using MakeTensor = std::function<at::Tensor(const std::string& key)>;

/// The same for tensors made one at a time by `make`, which must give what was planned.
void write_safetensors(const std::filesystem::path& path, std::vector<PlannedTensor> tensors,
                       const MakeTensor& make, const Metadata& metadata = {});

/// Writes the weights of a Hugging Face component: `<stem>.safetensors`, or where that would be
/// more than `max_shard_bytes` (diffusers' 5 GB) shards "<stem>-00001-of-00003.safetensors" with
/// `<stem>.safetensors.index.json`. A shard is closed before the tensor that would be too much; a
/// larger tensor has one to itself.
void write_component(const std::filesystem::path& directory, const std::string& stem,
                     const std::vector<PlannedTensor>& tensors, const MakeTensor& make,
                     std::uint64_t max_shard_bytes = 5'000'000'000);

}  // namespace matrix::tensor_io
