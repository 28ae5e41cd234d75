#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "lora/adapter_files.h"
#include "lora/manifest.h"
#include "lora/names.h"
#include "lora/zero_padded.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"
#include "matrix/lora/export.h"

namespace matrix::lora {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::pair<Format, const char*>, 4> kFormats = {
    {{Format::kDiffusers, "diffusers"},
     {Format::kPeft, "peft"},
     {Format::kKohya, "kohya"},
     {Format::kComfyui, "comfyui"}}};

std::int64_t largest_rank(const Adapter& adapter) {
    std::int64_t rank = 0;
    for (const auto& [linear, delta] : adapter.deltas) {
        rank = std::max(rank, delta.a.size(0));
    }
    return rank;
}

std::string short_number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g", value);
    return text;
}

at::Tensor narrowed(const at::Tensor& values, at::ScalarType dtype, const std::string& key) {
    const at::Tensor result = values.to(dtype);
    if (!at::isfinite(result).all().item<bool>()) {
        throw RunError("adapter: " + key + ": not finite in " + dtype_text(dtype) +
                       ", its largest magnitude being " +
                       short_number(values.abs().max().item<double>()) +
                       (dtype == at::kHalf ? "; use --dtype bfloat16 or float32" : ""));
    }
    return result;
}

/// The same map in `dtype` with scale 1 and `rank` rows; zeros fill up.
nn::LowRankDelta folded(const std::string& linear, const nn::LowRankDelta& delta, std::int64_t rank,
                        at::ScalarType dtype) {
    const at::Tensor a = delta.a.detach().to(at::kCPU, at::kFloat);
    const at::Tensor b = delta.b.detach().to(at::kCPU, at::kFloat) * delta.scale;
    return {narrowed(zero_padded(a, 0, rank), dtype, a_key(linear)),
            narrowed(zero_padded(b, 1, rank), dtype, b_key(linear)), 1.0};
}

/// What is written of an adapter.
Adapter folded(const Adapter& adapter, at::ScalarType dtype) {
    Adapter result;
    result.info = adapter.info;
    result.info.trained_alpha = adapter.info.trained_alpha.value_or(adapter.info.alpha);
    result.info.rank = largest_rank(adapter);
    result.info.alpha = static_cast<double>(result.info.rank);
    result.info.rslora = false;
    for (const auto& [linear, delta] : adapter.deltas) {
        result.deltas[linear] = folded(linear, delta, result.info.rank, dtype);
    }
    result.projection_weight = adapter.projection_weight;
    result.projection_bias = adapter.projection_bias;
    return result;
}

/// scale B A as [out, in]; float64 keeps what float32 would round away.
at::Tensor applied(const nn::LowRankDelta& delta) {
    const auto matrix = [](const at::Tensor& t) {
        return t.detach().to(at::kCPU, at::kDouble).flatten(1);
    };
    return at::mm(matrix(delta.b), matrix(delta.a)) * delta.scale;
}

void compare(const nn::LowRankDelta& before, const nn::LowRankDelta& after, ExportReport& report) {
    const at::Tensor wanted = applied(before);  // [out, in]
    const auto largest = wanted.abs().max().item<double>();
    const auto difference = (applied(after) - wanted).abs().max().item<double>();
    report.largest_difference = std::max(report.largest_difference, difference);
    if (difference > 0) {
        report.relative_difference = std::max(report.relative_difference, difference / largest);
    }
}

void write_files(const Adapter& adapter, const AdapterFiles& files, const ExportOptions& options,
                 const fs::path& directory) {
    Manifest manifest;
    manifest.format = format_name(options.format);
    manifest.info = adapter.info;
    for (const auto& [name, file] : files.files) {
        tensor_io::write_safetensors(directory / name, file.tensors, file.metadata);
        manifest.files.push_back(name);
    }
    for (const auto& [name, text] : files.texts) {
        write_file_atomically(directory / name, text);
    }
    write_file_atomically(directory / kManifestFile, manifest_text(manifest));
    if (options.card) {
        write_file_atomically(directory / kCardFile, options.card(manifest.files));
    }
}

bool same(const at::Tensor& first, const at::Tensor& second) {
    return first.defined() == second.defined() && (!first.defined() || first.equal(second));
}

/// What was written must be what was meant, through the same reader that users get.
void check_written(const Adapter& read, const Adapter& meant, const fs::path& target) {
    bool equal = read.deltas.size() == meant.deltas.size() &&
                 same(read.projection_weight, meant.projection_weight) &&
                 same(read.projection_bias, meant.projection_bias);
    for (const auto& [linear, delta] : meant.deltas) {
        const auto found = read.deltas.find(linear);
        equal = equal && found != read.deltas.end() && found->second.scale == delta.scale &&
                same(found->second.a, delta.a.to(at::kFloat)) &&
                same(found->second.b, delta.b.to(at::kFloat));
    }
    if (!equal) {
        throw RunError(target.string() + ": the files read back differ from what was written");
    }
}

void check_difference(const ExportReport& report, at::ScalarType dtype, const fs::path& target) {
    if (!(report.relative_difference <= export_tolerance(dtype))) {
        throw RunError(target.string() + ": read back, a weight's change differs by " +
                       short_number(report.relative_difference) +
                       " of its largest value, more than the " +
                       short_number(export_tolerance(dtype)) + " that " + dtype_text(dtype) +
                       " may take" + (dtype == at::kFloat ? "" : "; use --dtype float32"));
    }
}

bool is_export_file(const std::string& name) {
    const auto among = [&](const auto& names) {
        return std::find(names.begin(), names.end(), name) != names.end();
    };
    return name == kManifestFile || name == kCardFile || name == kPeftConfigFile ||
           among(kLoraFiles) || among(kSidecarFiles);
}

/// Nothing but an empty directory or an adapter directory of this program gives way.
void check_replaceable(const fs::path& directory) {
    if (!fs::exists(fs::symlink_status(directory))) {
        return;
    }
    bool replaceable = fs::is_directory(directory);
    if (replaceable && !fs::is_empty(directory)) {
        replaceable = fs::exists(directory / kManifestFile);
        for (const auto& entry : fs::directory_iterator(directory)) {
            replaceable = replaceable && is_export_file(entry.path().filename().string());
        }
    }
    if (!replaceable) {
        throw RunError(directory.string() +
                       ": exists and is neither empty nor an adapter directory; choose another");
    }
}

}  // namespace

std::vector<std::string> format_names() {
    std::vector<std::string> names;
    for (const auto& [format, name] : kFormats) {
        names.emplace_back(name);
    }
    return names;
}

std::string format_name(Format format) {
    return kFormats.at(static_cast<std::size_t>(format)).second;
}

std::optional<Format> find_format(const std::string& name) {
    for (const auto& [format, known] : kFormats) {
        if (name == known) {
            return format;
        }
    }
    return std::nullopt;
}

double export_tolerance(at::ScalarType dtype) {
    return dtype == at::kFloat ? 1e-4 : dtype == at::kHalf ? 1e-2 : 3e-2;
}

void check_export(const Adapter& adapter, const fs::path& directory, const ExportOptions& options) {
    check_replaceable(directory);
    static_cast<void>(files_of(folded(adapter, options.dtype), options.format));
}

ExportReport export_adapter(const Adapter& adapter, const fs::path& directory,
                            const ExportOptions& options) {
    check_replaceable(directory);
    const Adapter written = folded(adapter, options.dtype);
    const AdapterFiles files = files_of(written, options.format);
    ExportReport report;
    report.notes = files.notes;
    write_directory_atomically(directory, [&](const fs::path& temporary) {
        write_files(written, files, options, temporary);
        const Adapter read = read_adapter(temporary);
        check_written(read, written, directory);
        for (const auto& [linear, delta] : adapter.deltas) {
            compare(delta, read.deltas.at(linear), report);
        }
        check_difference(report, options.dtype, directory);
        if (options.inspect) {
            options.inspect(read);
        }
    });
    return report;
}

}  // namespace matrix::lora
