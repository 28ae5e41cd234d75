#include "lora/lora_file.h"

#include <ATen/ATen.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "lora/names.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"

namespace matrix::lora {
namespace {

using tensor_io::SafetensorsFile;

constexpr std::size_t kLongestShown = 80;
constexpr std::int64_t kLargestChange = std::int64_t{1} << 31;  // values of B A

/// Fit for one line of a terminal.
std::string escaped(const std::string& text) {
    using nlohmann::json;
    const std::string quoted = json(text).dump(-1, ' ', false, json::error_handler_t::replace);
    return quoted.substr(1, quoted.size() - 2);
}

std::string shortened(const std::string& key) {
    return key.size() > kLongestShown ? key.substr(0, kLongestShown) + "..." : key;
}

[[noreturn]] void refuse(const SafetensorsFile& file, const std::string& key,
                         const std::string& fault) {
    throw RunError(file.path().string() + ": " + escaped(key) + ": " + fault);
}

/// The file's own keys of one linear, by role.
using KeysOfLinear = std::map<Role, std::string>;

struct FoundKey {
    std::string key;
    LoraKey parsed;
};

std::vector<FoundKey> parse_keys(const SafetensorsFile& file,
                                 const std::function<bool(const std::string&)>& skip) {
    std::vector<FoundKey> found;
    for (const std::string& key : file.keys()) {
        if (skip(key)) {
            continue;
        }
        const auto parsed = parse_key(key);
        if (!parsed) {
            refuse(file, shortened(key),
                   "not a LoRA tensor (expected transformer.<linear>.lora_A.weight or "
                   ".lora_B.weight, or the keys of peft, kohya or ComfyUI)");
        }
        if (parsed->linear.size() > kLongestLinear) {
            refuse(file, shortened(key),
                   "a name of more than " + std::to_string(kLongestLinear) + " characters");
        }
        found.push_back({key, *parsed});
    }
    return found;
}

bool is_factor(Role role) {
    return role == Role::kA || role == Role::kB;
}

/// The dialect of most of the factors; without factors, that of the first key.
Dialect common_dialect(const std::vector<FoundKey>& keys) {
    std::map<Dialect, std::size_t> factors;
    for (const FoundKey& key : keys) {
        factors[key.parsed.dialect] += is_factor(key.parsed.role) ? 1 : 0;
    }
    Dialect common = keys.front().parsed.dialect;
    for (const auto& [dialect, count] : factors) {
        common = count > factors[common] ? dialect : common;
    }
    return common;
}

/// ComfyUI's two spellings differ in the factors alone.
bool belongs(const LoraKey& key, Dialect dialect) {
    return key.dialect == dialect || (dialect == Dialect::kComfyuiDown && !is_factor(key.role) &&
                                      key.dialect == Dialect::kComfyui);
}

/// A [r, in] and B [out, r], or a convolution's A [r, C, kh, kw] and B [out, r, 1, 1].
void check_pair(const SafetensorsFile& file, const std::string& key_a, const std::string& key_b) {
    const std::vector<std::int64_t> a = file.shape(key_a), b = file.shape(key_b);
    const std::string name_a =
        key_a.find("lora_A") != std::string::npos ? "lora_A" : "the down factor";
    if (a.size() != 2 && a.size() != 4) {
        refuse(file, key_a,
               "shape " + shape_text(a) + " is neither a linear's nor a convolution's");
    }
    if (b.size() != a.size() || (b.size() == 4 && (b[2] != 1 || b[3] != 1))) {
        refuse(file, key_b,
               "shape " + shape_text(b) + " does not fit " + name_a + "'s " + shape_text(a) +
                   " (expected [out, r" + (a.size() == 4 ? ", 1, 1])" : "])"));
    }
    if (a[0] == 0 || b[1] == 0) {
        refuse(file, a[0] == 0 ? key_a : key_b, "a rank of 0");
    }
    if (a[0] != b[1]) {
        refuse(file, key_b,
               "rank " + std::to_string(b[1]) + " differs from " + name_a + "'s " +
                   std::to_string(a[0]));
    }
    for (const auto& [key, shape] : {std::pair(key_a, a), std::pair(key_b, b)}) {
        for (const std::int64_t size : shape) {
            if (size == 0) {
                refuse(file, key, "shape " + shape_text(shape) + " is empty");
            }
        }
    }
    std::int64_t room = kLargestChange / b[0];
    for (std::size_t dim = 1; dim < a.size(); ++dim) {
        room /= a[dim];
    }
    if (room == 0) {
        refuse(file, key_b,
               "shape " + shape_text(b) + " with " + name_a + "'s " + shape_text(a) +
                   " changes more than 2^31 values");
    }
}

double read_alpha(const SafetensorsFile& file, const std::string& key) {
    const std::vector<std::int64_t> shape = file.shape(key);
    if (c10::multiply_integers(shape) != 1) {
        refuse(file, key, "shape " + shape_text(shape) + ", expected one number");
    }
    const auto alpha = file.tensor(key).to(at::kDouble).item<double>();
    if (!std::isfinite(alpha)) {
        refuse(file, key, "is not finite");
    }
    return alpha;
}

nn::LowRankDelta read_delta(const SafetensorsFile& file, Dialect dialect, const std::string& linear,
                            const KeysOfLinear& keys) {
    const auto find = [&](Role role) {
        const auto found = keys.find(role);
        return found == keys.end() ? std::string() : found->second;
    };
    const std::string a = find(Role::kA), b = find(Role::kB), alpha = find(Role::kAlpha);
    if (a.empty() || b.empty()) {
        const std::string& there = !a.empty() ? a : !b.empty() ? b : alpha;
        refuse(file, there,
               "half a pair: " +
                   escaped(dialect_key(dialect, linear, a.empty() ? Role::kA : Role::kB)) +
                   " is missing");
    }
    check_pair(file, a, b);
    nn::LowRankDelta delta = {read_values(file, a), read_values(file, b), 1.0};
    if (!alpha.empty()) {
        delta.scale = read_alpha(file, alpha) / static_cast<double>(delta.a.size(0));
    }
    return delta;
}

}  // namespace

std::string LoraTensors::key_of_a(const std::string& linear) const {
    return dialect_key(dialect.value_or(Dialect::kDiffusers), linear, Role::kA);
}

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

LoraTensors read_lora_tensors(const SafetensorsFile& file,
                              const std::function<bool(const std::string&)>& skip) {
    LoraTensors tensors;
    const std::vector<FoundKey> keys = parse_keys(file, skip);
    if (keys.empty()) {
        return tensors;
    }
    const Dialect dialect = common_dialect(keys);
    tensors.dialect = dialect;
    std::map<std::string, KeysOfLinear> linears;
    std::string weight, bias;
    for (const auto& [key, parsed] : keys) {
        if (!belongs(parsed, dialect)) {
            refuse(file, key,
                   std::string("not a LoRA tensor of the ") + dialect_name(dialect) +
                       " dialect, which the other keys have; a file holds one dialect");
        }
        if (parsed.role == Role::kWeight || parsed.role == Role::kBias) {
            (parsed.role == Role::kWeight ? weight : bias) = key;
            continue;
        }
        const auto [place, fresh] = linears[parsed.linear].emplace(parsed.role, key);
        if (!fresh) {
            refuse(file, key, "the same tensor as " + escaped(place->second));
        }
    }
    for (const auto& [linear, own] : linears) {
        tensors.deltas[linear] = read_delta(file, dialect, linear, own);
    }
    if (weight.empty() && !bias.empty()) {
        refuse(file, bias, "is there without the projection's weight");
    }
    if (!weight.empty()) {
        read_projection(file, weight, bias, tensors.projection_weight, tensors.projection_bias);
    }
    return tensors;
}

void read_projection(const SafetensorsFile& file, const std::string& weight,
                     const std::string& bias, at::Tensor& weight_values, at::Tensor& bias_values) {
    if (!file.contains(weight)) {
        if (file.contains(bias)) {
            refuse(file, bias, "is there without " + weight);
        }
        return;
    }
    const std::vector<std::int64_t> shape = file.shape(weight);
    if (shape.size() != 2 && shape.size() != 4) {
        refuse(file, weight,
               "shape " + shape_text(shape) + " is neither a linear's nor a convolution's");
    }
    if (file.contains(bias) && file.shape(bias) != std::vector<std::int64_t>{shape[0]}) {
        refuse(file, bias,
               "shape " + shape_text(file.shape(bias)) + ", expected " + shape_text({shape[0]}));
    }
    weight_values = read_values(file, weight);
    bias_values = file.contains(bias) ? read_values(file, bias) : at::Tensor();
}

}  // namespace matrix::lora
