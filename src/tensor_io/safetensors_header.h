#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "matrix/tensor_io/safetensors.h"

// The file: 8 bytes little-endian header size N, N bytes of JSON, the data. The JSON maps each name
// to {"dtype", "shape", "data_offsets": [begin, end)} relative to the data.

namespace matrix::tensor_io {

/// What the reference implementation allows.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

struct Entry {
    at::ScalarType dtype = at::kFloat;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

struct Header {
    std::map<std::string, Entry> entries;
    Metadata metadata;
};

/// Checks everything there is to check: JSON, duplicate keys, dtypes, shapes against spans, and
/// that the spans tile the `data_bytes` of data without hole, overlap or rest. `where` is the
/// file's name for the messages. Memory stays proportional to the text, whatever is in it.
[[nodiscard]] Header parse_header(std::string_view text, std::uint64_t data_bytes,
                                  const std::string& where);

/// The name of a dtype in the header, "BF16"; empty if the format has none for it.
[[nodiscard]] std::string_view dtype_name(at::ScalarType dtype);
[[nodiscard]] std::optional<at::ScalarType> dtype_of_name(std::string_view name);

/// A tensor's name as messages quote it: one line, cut where it is very long.
[[nodiscard]] std::string quote_name(std::string_view name);

}  // namespace matrix::tensor_io
