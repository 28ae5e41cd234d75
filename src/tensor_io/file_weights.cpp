#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"
#include "matrix/core/transfer.h"
#include "matrix/tensor_io/weights.h"
#include "tensor_io/safetensors_header.h"

namespace matrix::tensor_io {

namespace fs = std::filesystem;

namespace {

/// Shard -> the keys that the index says it has.
using Shards = std::map<std::string, std::set<std::string>>;

bool is_plain_file_name(const std::string& name) {
    return !name.empty() && name != "." && name != ".." &&
           name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

Shards read_index(const fs::path& path) {
    const nlohmann::json index = parse_json(read_text_file(path), path.string());
    const auto map = index.is_object() ? index.find("weight_map") : index.end();
    if (!index.is_object() || map == index.end() || !map->is_object() || map->empty()) {
        throw RunError(path.string() + ": no object \"weight_map\" with tensors in it");
    }
    Shards shards;
    std::vector<std::string> faults;
    for (const auto& [key, value] : map->items()) {
        const std::string name = value.is_string() ? value.get<std::string>() : "";
        if (is_plain_file_name(name)) {
            shards[name].insert(key);
        } else {
            faults.push_back(path.string() + ": tensor " + quote_name(key) + ": " +
                             (value.is_string() ? quote_name(name) : "its shard") +
                             " is not the plain name of a file in this directory");
        }
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
    return shards;
}

}  // namespace

FileWeights::FileWeights(const fs::path& directory, const std::string& stem, at::ScalarType dtype,
                         at::Device device)
    : directory_(directory), dtype_(dtype), device_(device) {
    const fs::path single = directory / (stem + ".safetensors");
    const fs::path index = directory / (stem + ".safetensors.index.json");
    std::error_code ignored;
    // The index first, as diffusers does.
    if (!fs::exists(index, ignored)) {
        if (!fs::exists(single, ignored)) {
            throw RunError(directory.string() + ": neither " + single.filename().string() +
                           " nor " + index.filename().string() + " is there");
        }
        add_file(single, nullptr);
        return;
    }
    std::vector<std::string> faults;
    for (const auto& [name, keys] : read_index(index)) {
        try {
            add_file(directory / name, &keys);
        } catch (const RunError& error) {
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
        }
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
}

void FileWeights::add_file(const fs::path& path, const std::set<std::string>* indexed) {
    SafetensorsFile file(path);
    std::vector<std::string> faults;
    for (const std::string& key : file.keys()) {
        if (indexed != nullptr && !indexed->contains(key)) {
            faults.push_back(path.string() + ": tensor " + quote_name(key) +
                             " is not listed for this file in the index");
        }
        file_of_key_[key] = files_.size();
    }
    if (indexed != nullptr) {
        for (const std::string& key : *indexed) {
            if (!file.contains(key)) {
                faults.push_back(path.string() + ": tensor " + quote_name(key) +
                                 " is listed in the index but not in the file");
            }
        }
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
    files_.push_back(std::move(file));
}

const SafetensorsFile* FileWeights::check(const std::string& key, at::IntArrayRef shape) {
    const auto found = file_of_key_.find(key);
    if (found == file_of_key_.end()) {
        faults_.push_back(directory_.string() + ": missing tensor " + quote_name(key) + " " +
                          shape_text(shape));
        return nullptr;
    }
    taken_.insert(key);
    const SafetensorsFile& file = files_[found->second];
    const std::string name = file.path().string() + ": tensor " + quote_name(key) + ": ";
    if (at::IntArrayRef(file.shape(key)) != shape) {
        faults_.push_back(name + "shape " + shape_text(file.shape(key)) + ", expected " +
                          shape_text(shape));
        return nullptr;
    }
    if (!at::isFloatingType(file.dtype(key))) {
        faults_.push_back(name + "dtype " + dtype_text(file.dtype(key)) +
                          ", expected floating point");
        return nullptr;
    }
    return &file;
}

at::Tensor FileWeights::take(const std::string& key, at::IntArrayRef shape) {
    const SafetensorsFile* file = check(key, shape);
    if (file == nullptr) {
        return {};
    }
    return upload(file->tensor(key), device_).to(dtype_);
}

void FileWeights::expect(const std::string& key, at::IntArrayRef shape) {
    static_cast<void>(check(key, shape));
}

bool FileWeights::has(const std::string& key) const {
    return file_of_key_.contains(key);
}

void FileWeights::allow_copy(const std::string& key, const std::string& original) {
    if (!has(key)) {
        return;
    }
    taken_.insert(key);
    if (!has(original)) {  // `take` says so
        return;
    }
    const at::Tensor copy = stored(key), tensor = stored(original);
    if (copy.scalar_type() != tensor.scalar_type() || copy.sizes() != tensor.sizes() ||
        std::memcmp(copy.const_data_ptr(), tensor.const_data_ptr(), tensor.nbytes()) != 0) {
        faults_.push_back(files_[file_of_key_.at(key)].path().string() + ": tensor " +
                          quote_name(key) + ": is no copy of " + quote_name(original));
    }
}

std::vector<std::string> FileWeights::keys() const {
    std::vector<std::string> result;
    for (const auto& [key, file] : file_of_key_) {
        result.push_back(key);
    }
    return result;
}

at::Tensor FileWeights::stored(const std::string& key) const {
    const auto found = file_of_key_.find(key);
    if (found == file_of_key_.end()) {
        throw RunError(directory_.string() + ": no tensor " + quote_name(key));
    }
    return files_[found->second].tensor(key);
}

void FileWeights::finish() {
    std::vector<std::string> faults = faults_;
    for (const auto& [key, file] : file_of_key_) {
        if (!taken_.contains(key)) {
            faults.push_back(files_[file].path().string() + ": unexpected tensor " +
                             quote_name(key) + " " + shape_text(files_[file].shape(key)));
        }
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
}

}  // namespace matrix::tensor_io
