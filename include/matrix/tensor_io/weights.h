#pragma once

#include "matrix/tensor_io/safetensors.h"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace matrix::tensor_io {

/// Where a model's constructor takes its parameters from, by checkpoint key. Files, random
/// initialisation and plain counting (the memory plan) are implementations, so the list of keys and
/// shapes stands once, in the model.
class WeightSource {
public:
    virtual ~WeightSource() = default;
    /// The tensor `key` of exactly `shape`, in the source's compute dtype and device. May return an
    /// undefined tensor after noting a fault; `finish` then throws, so a constructor need not
    /// check.
    [[nodiscard]] virtual at::Tensor take(const std::string& key, at::IntArrayRef shape) = 0;
    /// Checks `key` like `take` without reading or converting it: the half of a checkpoint that is
    /// not built.
    virtual void expect(const std::string& key, at::IntArrayRef shape) {
        static_cast<void>(take(key, shape));
    }
    /// Whether an optional tensor is there.
    [[nodiscard]] virtual bool has(const std::string& key) const = 0;
    /// `key` may stand in the files too, with the bytes of `original`: a tied weight, saved twice.
    virtual void allow_copy(const std::string& key, const std::string& original) = 0;
    /// RunError with every missing, mis-shaped, non-floating and unexpected key of the whole model
    /// at once.
    virtual void finish() = 0;
};

/// A Hugging Face component directory: `<stem>.safetensors`, or the shards named by
/// `<stem>.safetensors.index.json` (plain file names only, none outside the directory). Mapped, not
/// read: pages come in as they are used.
class FileWeights final : public WeightSource {
public:
    FileWeights(const std::filesystem::path& directory, const std::string& stem,
                at::ScalarType dtype, at::Device device);
    [[nodiscard]] at::Tensor take(const std::string& key, at::IntArrayRef shape) override;
    void expect(const std::string& key, at::IntArrayRef shape) override;
    [[nodiscard]] bool has(const std::string& key) const override;
    void allow_copy(const std::string& key, const std::string& original) override;
    void finish() override;
    [[nodiscard]] std::vector<std::string> keys() const;
    /// As in the file: in its own dtype, a view of the mapping. RunError if there is no such
    /// tensor.
    [[nodiscard]] at::Tensor stored(const std::string& key) const;

private:
    /// Notes `key` as taken and any fault of it; its file, or null after a fault.
    [[nodiscard]] const SafetensorsFile* check(const std::string& key, at::IntArrayRef shape);
    /// `indexed`: the keys the index lists for this file; null without an index.
    void add_file(const std::filesystem::path& path, const std::set<std::string>* indexed);

    std::filesystem::path directory_;
    at::ScalarType dtype_;
    at::Device device_;
    std::vector<SafetensorsFile> files_;
    std::map<std::string, std::size_t> file_of_key_;
    std::set<std::string> taken_;
    std::vector<std::string> faults_;
};

/// Notes keys and shapes and hands out meta tensors (no memory): what the memory plan and `init`
/// count.
class CountingWeights final : public WeightSource {
public:
    [[nodiscard]] at::Tensor take(const std::string& key, at::IntArrayRef shape) override;
    [[nodiscard]] bool has(const std::string&) const override { return true; }
    void allow_copy(const std::string&, const std::string&) override {}
    void finish() override {}
    [[nodiscard]] const std::map<std::string, std::vector<std::int64_t>>& shapes() const {
        return shapes_;
    }
    [[nodiscard]] std::int64_t num_elements() const;

private:
    std::map<std::string, std::vector<std::int64_t>> shapes_;
};

/// Values from a function of (key, shape), kept for saving: random models of `init`, tests and
/// benchmarks.
class GeneratedWeights final : public WeightSource {
public:
    using Generate = std::function<at::Tensor(const std::string& key, at::IntArrayRef shape)>;
    explicit GeneratedWeights(Generate generate) : generate_(std::move(generate)) {}
    [[nodiscard]] at::Tensor take(const std::string& key, at::IntArrayRef shape) override;
    void expect(const std::string&, at::IntArrayRef) override {}
    [[nodiscard]] bool has(const std::string&) const override { return true; }
    void allow_copy(const std::string&, const std::string&) override {}
    void finish() override {}
    [[nodiscard]] const TensorMap& tensors() const { return tensors_; }

private:
    Generate generate_;
    TensorMap tensors_;
};

}  // namespace matrix::tensor_io
