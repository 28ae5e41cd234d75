#include "cli/bench/request.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <sstream>

#include "cli/compute_flags.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"

namespace matrix::cli::bench {

Shape Request::shape() const {
    if (preset.empty() == shape_text.empty()) {
        throw UsageError("bench: give one of --preset and --shape");
    }
    return preset.empty() ? parse_shape(shape_text) : preset_shape(preset);
}

at::ScalarType Request::dtype() const {
    return parse_compute_dtype(dtype_name, "--dtype");
}

at::Device Request::device() const {
    return compute_device(device_name);
}

std::vector<std::int64_t> parse_blocks(const std::string& text, const std::string& flag,
                                       std::int64_t layers, bool all) {
    std::vector<std::int64_t> blocks;
    if (all && text == "all") {
        blocks.resize(static_cast<std::size_t>(layers));
        std::iota(blocks.begin(), blocks.end(), 0);
        return blocks;
    }
    std::istringstream list(text);
    for (std::string item; std::getline(list, item, ',');) {
        std::int64_t block = -1;
        const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), block);
        if (error != std::errc() || end != item.data() + item.size() || block < 0 ||
            block >= layers) {
            throw UsageError(flag + ": \"" + item + "\" is no block from 0 to " +
                             std::to_string(layers - 1));
        }
        if (std::find(blocks.begin(), blocks.end(), block) != blocks.end()) {
            throw UsageError(flag + ": block " + item + " is named twice");
        }
        blocks.push_back(block);
    }
    if (blocks.empty()) {
        throw UsageError(flag + ": names no block");
    }
    return blocks;
}

}  // namespace matrix::cli::bench
