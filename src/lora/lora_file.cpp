#include "lora/lora_file.h"

#include <ATen/ATen.h>

#include <optional>
#include <string_view>
#include <utility>

#include "lora/names.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"

namespace matrix::lora {
namespace {

using tensor_io::SafetensorsFile;

constexpr std::string_view kPrefix = "transformer.";
constexpr std::string_view kEndOfA = ".lora_A.weight";
constexpr std::string_view kEndOfB = ".lora_B.weight";

[[noreturn]] void refuse(const SafetensorsFile& file, const std::string& key,
                         const std::string& fault) {
    throw RunError(file.path().string() + ": " + key + ": " + fault);
}

/// The linear that `key` is a factor of.
std::optional<std::string> linear_of(const std::string& key) {
    for (const std::string_view end : {kEndOfA, kEndOfB}) {
        if (key.starts_with(kPrefix) && key.ends_with(end) &&
            key.size() > kPrefix.size() + end.size()) {
            return key.substr(kPrefix.size(), key.size() - kPrefix.size() - end.size());
        }
    }
    return std::nullopt;
}

/// A [r, in] and B [out, r], or a convolution's A [r, C, kh, kw] and B [out, r, 1, 1].
void check_pair(const SafetensorsFile& file, const std::string& linear) {
    const std::string key_a = a_key(linear), key_b = b_key(linear);
    if (!file.contains(key_a)) {
        refuse(file, key_b, "half a pair: " + key_a + " is missing");
    }
    if (!file.contains(key_b)) {
        refuse(file, key_a, "half a pair: " + key_b + " is missing");
    }
    const std::vector<std::int64_t> a = file.shape(key_a), b = file.shape(key_b);
    if (a.size() != 2 && a.size() != 4) {
        refuse(file, key_a,
               "shape " + shape_text(a) + " is neither a linear's nor a convolution's");
    }
    if (b.size() != a.size() || (b.size() == 4 && (b[2] != 1 || b[3] != 1))) {
        refuse(file, key_b,
               "shape " + shape_text(b) + " does not fit lora_A's " + shape_text(a) +
                   " (expected [out, r" + (a.size() == 4 ? ", 1, 1])" : "])"));
    }
    if (a[0] == 0 || b[1] == 0) {
        refuse(file, a[0] == 0 ? key_a : key_b, "a rank of 0");
    }
    if (a[0] != b[1]) {
        refuse(file, key_b,
               "rank " + std::to_string(b[1]) + " differs from lora_A's " + std::to_string(a[0]));
    }
    for (const auto& [key, shape] : {std::pair(key_a, a), std::pair(key_b, b)}) {
        for (const std::int64_t size : shape) {
            if (size == 0) {
                refuse(file, key, "shape " + shape_text(shape) + " is empty");
            }
        }
    }
}

}  // namespace

at::Tensor read_values(const SafetensorsFile& file, const std::string& key) {
    if (!at::isFloatingType(file.dtype(key))) {
        refuse(file, key, "dtype " + dtype_text(file.dtype(key)) + " is not a floating dtype");
    }
    const at::Tensor values = file.tensor(key).to(at::kFloat);
    if (!at::isfinite(values).all().item<bool>()) {
        refuse(file, key, "holds values that are not finite in float32");
    }
    return values;
}

std::map<std::string, nn::LowRankDelta> read_pairs(
    const SafetensorsFile& file, const std::function<bool(const std::string&)>& skip) {
    std::map<std::string, nn::LowRankDelta> deltas;
    for (const std::string& key : file.keys()) {
        if (skip(key)) {
            continue;
        }
        const std::optional<std::string> linear = linear_of(key);
        if (!linear) {
            refuse(file, key,
                   "not a LoRA tensor (expected transformer.<linear>.lora_A.weight or "
                   ".lora_B.weight)");
        }
        if (linear->size() > kLongestLinear) {
            refuse(file, key.substr(0, 80) + "...",
                   "a name of more than " + std::to_string(kLongestLinear) + " characters");
        }
        if (deltas.count(*linear) == 0) {
            check_pair(file, *linear);
            deltas[*linear] = {read_values(file, a_key(*linear)), read_values(file, b_key(*linear)),
                               1.0};
        }
    }
    return deltas;
}

}  // namespace matrix::lora
