#include "cli/bench/report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

namespace matrix::cli::bench {
namespace {

using Line = std::pair<std::string, std::string>;

std::string text_of(const char* format, double value) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), format, value);
    return text.data();
}

/// With the unit that the name says.
std::string value_text(const std::string& name, const nlohmann::json& value) {
    if (value.is_string()) {
        return value.get<std::string>();
    }
    if (!value.is_number()) {
        return value.dump();
    }
    const auto number = value.get<double>();
    if (name.find("bytes") != std::string::npos) {
        return text_of("%.1f MiB", number / (1 << 20));
    }
    if (name.find("seconds") != std::string::npos) {
        return text_of("%.4f s", number);
    }
    if (name.find("flop") != std::string::npos) {
        return text_of("%.3f G", number / 1e9);
    }
    return value.is_number_integer() ? value.dump() : text_of("%.6g", number);
}

void add_lines(const std::string& name, const nlohmann::json& value, std::vector<Line>& lines) {
    if (!value.is_object()) {
        lines.emplace_back(name, value_text(name, value));
        return;
    }
    for (const auto& [key, part] : value.items()) {
        add_lines(name.empty() ? key : name + "." + key, part, lines);
    }
}

}  // namespace

std::string table(const nlohmann::json& result) {
    std::vector<Line> lines;
    add_lines("", result, lines);
    std::size_t width = 0;
    for (const Line& line : lines) {
        width = std::max(width, line.first.size());
    }
    std::string text;
    for (const auto& [name, value] : lines) {
        text += name + std::string(width + 2 - name.size(), ' ') + value + "\n";
    }
    return text;
}

}  // namespace matrix::cli::bench
