#include "matrix/core/shape.h"

#include <c10/core/ScalarType.h>

#include "matrix/core/error.h"

namespace matrix {
namespace {

bool matches(at::IntArrayRef actual, at::IntArrayRef wanted) {
    if (actual.size() != wanted.size()) {
        return false;
    }
    for (std::size_t i = 0; i < actual.size(); ++i) {
        if (wanted[i] != -1 && wanted[i] != actual[i]) {
            return false;
        }
    }
    return true;
}

}  // namespace

void expect_shape(const at::Tensor& tensor, at::IntArrayRef shape, std::string_view name) {
    if (!tensor.defined()) {
        throw RunError(std::string(name) + ": missing, expected shape " + shape_text(shape));
    }
    if (!matches(tensor.sizes(), shape)) {
        throw RunError(std::string(name) + ": shape " + shape_text(tensor.sizes()) + ", expected " +
                       shape_text(shape));
    }
}

std::string shape_text(at::IntArrayRef shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        text += i > 0 ? ", " : "";
        text += shape[i] == -1 ? "any" : std::to_string(shape[i]);
    }
    return text + "]";
}

std::string dtype_text(at::ScalarType dtype) {
    switch (dtype) {
        case at::kDouble:
            return "float64";
        case at::kFloat:
            return "float32";
        case at::kHalf:
            return "float16";
        case at::kBFloat16:
            return "bfloat16";
        case at::kFloat8_e4m3fn:
            return "float8_e4m3fn";
        case at::kFloat8_e5m2:
            return "float8_e5m2";
        case at::kLong:
            return "int64";
        case at::kInt:
            return "int32";
        case at::kShort:
            return "int16";
        case at::kChar:
            return "int8";
        case at::kByte:
            return "uint8";
        case at::kUInt16:
            return "uint16";
        case at::kUInt32:
            return "uint32";
        case at::kUInt64:
            return "uint64";
        case at::kBool:
            return "bool";
        default:
            return c10::toString(dtype);
    }
}

at::ScalarType parse_compute_dtype(std::string_view text, std::string_view where) {
    if (text == "float32") {
        return at::kFloat;
    }
    if (text == "bfloat16") {
        return at::kBFloat16;
    }
    throw UsageError(std::string(where) + ": \"" + std::string(text) +
                     "\" is not one of \"float32\", \"bfloat16\"");
}

}  // namespace matrix
