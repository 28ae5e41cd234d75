#pragma once

#include <cmath>
#include <cstdio>
#include <string>

namespace matrix::analysis {

/// Four significant digits, for people; "none" for NaN.
inline std::string short_number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    return std::isnan(value) ? "none" : text;
}

}  // namespace matrix::analysis
