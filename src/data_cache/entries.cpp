#include "matrix/data_cache/entries.h"

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"
#include "matrix/data_cache/index.h"
#include "matrix/data_cache/keys.h"

#include <ATen/ATen.h>

#include <chrono>
#include <set>
#include <string_view>
#include <utility>

namespace matrix::data_cache {
namespace {

namespace fs = std::filesystem;
using tensor_io::SafetensorsFile;

struct Wanted {
    std::string name;
    std::vector<std::int64_t> shape;  // -1: any size
    at::ScalarType dtype;
};

std::string folder_of(EntryKind kind) {
    switch (kind) {
        case EntryKind::kVideo:
            return "videos";
        case EntryKind::kMasks:
            return "masks";
        case EntryKind::kIdMap:
            return "id_maps";
        case EntryKind::kPrompt:
            return "prompts";
    }
    TORCH_CHECK(false, "unknown kind of entry");
}

std::vector<Wanted> wanted_tensors(EntryKind kind, const DataConfig& c) {
    const std::int64_t frames = (c.frames - 1) / 4 + 1;
    const std::int64_t h = c.height / 8, w = c.width / 8;
    switch (kind) {
        case EntryKind::kVideo:
            return {{"video_moments", {-1, frames, h, w}, at::kFloat},
                    {"image_clean_moments", {-1, 1, h, w}, at::kFloat},
                    {"image_moments", {c.image_noise_draws, -1, 1, h, w}, at::kFloat}};
        case EntryKind::kMasks:
            return {{"ids", {-1}, at::kLong},
                    {"pixels", {-1}, at::kLong},
                    {"tracks", {-1, c.frames, c.height * c.width / 8}, at::kByte},
                    {"query_half", {-1, h / 2, w / 2}, at::kByte},
                    {"query_nearest", {-1, h / 2, w / 2}, at::kByte}};
        case EntryKind::kIdMap:
            return {{"id_map_mean", {-1, 1, h, w}, at::kFloat}};
        case EntryKind::kPrompt:
            return {{"prompt", {-1, -1}, at::ScalarType::Undefined}};
    }
    return {};
}

bool fits(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& wanted) {
    if (shape.size() != wanted.size()) {
        return false;
    }
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (wanted[i] != -1 && shape[i] != wanted[i]) {
            return false;
        }
    }
    return true;
}

std::string checksum(const tensor_io::TensorMap& tensors) {
    std::string lines;
    for (const auto& [name, tensor] : tensors) {
        const at::Tensor bytes = tensor.cpu().contiguous();
        const std::string_view view(static_cast<const char*>(bytes.const_data_ptr()),
                                    bytes.nbytes());
        lines += name + ' ' + hash_text(view) + '\n';
    }
    return hash_text(lines);
}

// The count of IDs is one number, whichever tensor is asked.
void check_id_count(const SafetensorsFile& file) {
    const std::int64_t n = file.shape("ids")[0];
    for (const char* name : {"pixels", "tracks", "query_half", "query_nearest"}) {
        if (file.shape(name)[0] != n) {
            throw RunError(file.path().string() + ": tensor " + name +
                           " disagrees with ids on the number of IDs");
        }
    }
}

}  // namespace

fs::path entry_path(const fs::path& cache, EntryKind kind, const std::string& key) {
    return cache / folder_of(kind) / (key + ".safetensors");
}

void write_entry(const fs::path& cache, EntryKind kind, const std::string& key,
                 const tensor_io::TensorMap& tensors, tensor_io::Metadata notes) {
    notes.merge(tensor_io::Metadata{{"format", std::to_string(kFormatVersion)},
                                    {"kind", folder_of(kind)},
                                    {"key", key},
                                    {"checksum", checksum(tensors)}});
    tensor_io::write_safetensors(entry_path(cache, kind, key), tensors, notes);
}

void remove_abandoned(const fs::path& cache) {
    const auto limit = fs::file_time_type::clock::now() - std::chrono::hours(24);
    for (const EntryKind kind :
         {EntryKind::kVideo, EntryKind::kMasks, EntryKind::kIdMap, EntryKind::kPrompt}) {
        std::error_code ignored;
        for (const auto& file : fs::directory_iterator(cache / folder_of(kind), ignored)) {
            const bool temporary =
                file.path().filename().string().find(".safetensors.tmp.") != std::string::npos;
            if (temporary && file.last_write_time(ignored) < limit) {
                fs::remove(file.path(), ignored);
            }
        }
    }
}

SafetensorsFile open_entry(const fs::path& cache, EntryKind kind, const std::string& key,
                           const DataConfig& config) {
    const fs::path path = entry_path(cache, kind, key);
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
        throw RunError(path.string() + ": missing; run `matrix prepare`");
    }
    SafetensorsFile file(path);
    const auto& metadata = file.metadata();
    const auto matches = [&](const char* name, const std::string& value) {
        const auto it = metadata.find(name);
        return it != metadata.end() && it->second == value;
    };
    if (!matches("format", std::to_string(kFormatVersion)) || !matches("kind", folder_of(kind)) ||
        !matches("key", key)) {
        throw RunError(path.string() +
                       ": is not the entry its name says; delete it and run `matrix prepare`");
    }
    for (const Wanted& wanted : wanted_tensors(kind, config)) {
        if (!file.contains(wanted.name)) {
            throw RunError(path.string() + ": has no tensor " + wanted.name +
                           "; delete it and run `matrix prepare`");
        }
        const at::ScalarType dtype = file.dtype(wanted.name);
        const bool dtype_fits = wanted.dtype == at::ScalarType::Undefined
                                    ? dtype == at::kFloat || dtype == at::kBFloat16
                                    : dtype == wanted.dtype;
        if (!dtype_fits || !fits(file.shape(wanted.name), wanted.shape)) {
            throw RunError(path.string() + ": tensor " + wanted.name + " is " + dtype_text(dtype) +
                           " " + shape_text(file.shape(wanted.name)) + ", wanted " +
                           shape_text(wanted.shape) + "; delete it and run `matrix prepare`");
        }
    }
    if (kind == EntryKind::kMasks) {
        check_id_count(file);
    }
    return file;
}

void check_content(const SafetensorsFile& entry) {
    const auto stored = entry.metadata().find("checksum");
    if (stored == entry.metadata().end() || stored->second != checksum(entry.all())) {
        throw RunError(entry.path().string() +
                       ": its content does not match its checksum; delete it and run "
                       "`matrix prepare`");
    }
}

bool has_entry(const fs::path& cache, EntryKind kind, const std::string& key,
               const DataConfig& config) {
    try {
        (void)open_entry(cache, kind, key, config);
        return true;
    } catch (const RunError&) {
        return false;
    }
}

std::vector<std::string> verify_cache(const fs::path& cache) {
    const CacheIndex index = CacheIndex::load(cache);
    std::set<std::pair<EntryKind, std::string>> entries = {
        {EntryKind::kPrompt, index.empty_prompt_key}};
    for (const CachedClip& clip : index.clips) {
        entries.insert({EntryKind::kVideo, clip.video_key});
        entries.insert({EntryKind::kMasks, clip.masks_key});
        entries.insert({EntryKind::kIdMap, clip.id_map_key});
        entries.insert({EntryKind::kPrompt, clip.prompt_key});
    }
    std::vector<std::string> faults;
    for (const auto& [kind, key] : entries) {
        if (key.empty()) {
            continue;
        }
        try {
            check_content(open_entry(cache, kind, key, index.config));
        } catch (const RunError& e) {
            faults.insert(faults.end(), e.faults().begin(), e.faults().end());
        }
    }
    return faults;
}

}  // namespace matrix::data_cache
