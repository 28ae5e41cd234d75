#include "cli/export/merged.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"
#include "matrix/core/signals.h"
#include "matrix/lora/merge.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using tensor_io::FileWeights;

constexpr const char* kStem = "diffusion_pytorch_model";
constexpr double kLossToTell = 0.1;  // of a weight's change

void leave_if_stopped() {
    if (const auto signal = stop_signal()) {
        throw Stopped{*signal};
    }
}

FileWeights open_weights(const fs::path& transformer) {
    return {transformer, kStem, at::kFloat, at::kCPU};
}

/// The base's weights with the adapter merged in, made one at a time.
class MergedWeights {
public:
    MergedWeights(const lora::Adapter& adapter, const MergedOptions& options)
        : adapter_(adapter),
          base_(open_weights(options.base / "transformer")),
          dtype_(options.dtype) {}

    /// Before the cast.
    [[nodiscard]] at::Tensor exact(const std::string& key) const {
        const at::Tensor base = base_.stored(key);
        return lora::changes(adapter_, key) ? lora::merged(adapter_, key, base) : base;
    }
    [[nodiscard]] at::Tensor make(const std::string& key) const { return cast(key, exact(key)); }
    /// `exact(key)` as it is written.
    [[nodiscard]] at::Tensor cast(const std::string& key, const at::Tensor& exact) const {
        const at::Tensor values = exact.to(dtype_.value_or(base_.stored(key).scalar_type()));
        if (!at::isfinite(values).all().item<bool>()) {
            throw RunError(
                "merged: " + key + ": not finite in " + dtype_text(values.scalar_type()) +
                (values.scalar_type() == at::kHalf ? "; use --dtype bfloat16 or float32" : ""));
        }
        return values;
    }
    /// The part of a change that `found` has lost, as a ratio of norms.
    [[nodiscard]] double loss(const std::string& key, const at::Tensor& found,
                              const at::Tensor& wanted) const {
        at::Tensor change = wanted.clone();
        const at::Tensor base = base_.stored(key).to(at::kFloat);
        if (base.sizes() == wanted.sizes()) {
            change.sub_(base);
        } else {
            change.narrow(1, 0, base.size(1)).sub_(base);  // a projection with an ID map
        }
        const auto size = change.norm().item<double>();
        return size > 0 ? (found.to(at::kFloat) - wanted).norm().item<double>() / size : 0.0;
    }
    [[nodiscard]] bool changed(const std::string& key) const {
        return lora::changes(adapter_, key);
    }
    [[nodiscard]] std::vector<std::string> keys() const { return base_.keys(); }
    [[nodiscard]] std::vector<tensor_io::PlannedTensor> plan() const {
        std::vector<tensor_io::PlannedTensor> tensors;
        for (const std::string& key : base_.keys()) {
            const at::Tensor base = base_.stored(key);
            // The projection alone may get another shape, and it is small.
            const at::IntArrayRef shape = base.sizes();
            tensors.push_back(
                {key, dtype_.value_or(base.scalar_type()),
                 key == "patch_embed.proj.weight" ? exact(key).sizes().vec() : shape.vec()});
        }
        return tensors;
    }

private:
    const lora::Adapter& adapter_;
    FileWeights base_;
    std::optional<at::ScalarType> dtype_;
};

std::string config_text(const MergedOptions& options) {
    const fs::path path = options.base / "transformer" / "config.json";
    const std::string text = read_text_file(path);
    static_cast<void>(parse_json(text, path.string()));
    ordered_json config = ordered_json::parse(text);
    config.erase("_name_or_path");  // a directory of the machine it was saved on
    config["in_channels"] = options.in_channels;
    return config.dump(2) + "\n";
}

/// What rounding took of the changes.
class RoundingLoss {
public:
    void add(const std::string& key, double loss) {
        if (loss <= kLossToTell) {
            return;
        }
        ++count_;
        if (loss > worst_) {
            worst_ = loss;
            key_ = key;
        }
    }
    [[nodiscard]] std::vector<std::string> notes() const {
        if (count_ == 0) {
            return {};
        }
        char text[64];
        std::snprintf(text, sizeof text, "%.0f %% of the change", worst_ * 100);
        return {"merged: " + key_ + ": rounding is " + text + ", and more than 10 % in " +
                std::to_string(count_) + (count_ == 1 ? " tensor" : " tensors") +
                "; use --dtype float32"};
    }

private:
    int count_ = 0;
    double worst_ = 0.0;
    std::string key_;
};

lora::ExportReport compare(const MergedWeights& merged, const fs::path& directory,
                           const fs::path& out) {
    lora::ExportReport report;
    const FileWeights read = open_weights(directory);
    RoundingLoss rounding;
    for (const std::string& key : merged.keys()) {
        leave_if_stopped();
        const at::Tensor found = read.stored(key);
        const at::Tensor wanted = merged.exact(key);
        if (!found.equal(merged.cast(key, wanted))) {
            throw RunError(out.string() + ": " + key +
                           ": read back, it differs from what was written");
        }
        if (merged.changed(key)) {
            rounding.add(key, merged.loss(key, found, wanted));
            const auto difference = (found.to(at::kFloat) - wanted).abs().max().item<double>();
            report.largest_difference = std::max(report.largest_difference, difference);
            if (difference > 0) {
                report.relative_difference = std::max(
                    report.relative_difference, difference / wanted.abs().max().item<double>());
            }
        }
    }
    report.notes = rounding.notes();
    return report;
}

}  // namespace

void check_free(const fs::path& out) {
    if (fs::exists(fs::symlink_status(out)) && (!fs::is_directory(out) || !fs::is_empty(out))) {
        throw RunError(out.string() +
                       ": exists and is not an empty directory; choose another, a merged model "
                       "replaces nothing");
    }
}

lora::ExportReport export_merged(const lora::Adapter& adapter, const fs::path& out,
                                 const MergedOptions& options) {
    check_free(out);
    const MergedWeights merged(adapter, options);
    lora::ExportReport report;
    write_directory_atomically(out, [&](const fs::path& temporary) {
        write_file_atomically(temporary / "config.json", config_text(options));
        tensor_io::write_component(temporary, kStem, merged.plan(), [&](const std::string& key) {
            leave_if_stopped();
            return merged.make(key);
        });
        write_file_atomically(temporary / "README.md", options.card);
        report = compare(merged, temporary, out);
        options.inspect(temporary);
    });
    return report;
}

}  // namespace matrix::cli
