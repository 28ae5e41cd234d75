#include "log/progress_line.h"

#include <algorithm>
#include <cstdio>

namespace matrix::log {
namespace {

constexpr int kMinBar = 10;
constexpr int kMaxBar = 40;

template <typename... Values>
std::string format(const char* pattern, Values... values) {
    char buffer[64];
    const int length = std::snprintf(buffer, sizeof(buffer), pattern, values...);
    return {buffer, static_cast<std::size_t>(std::clamp(length, 0, 63))};
}

double fraction(const ProgressState& state) {
    return state.total > 0
               ? std::clamp(double(state.done) / static_cast<double>(state.total), 0.0, 1.0)
               : 0.0;
}

std::string head(const ProgressState& state) {
    if (state.total <= 0) {
        return state.label;
    }
    // Rounded down: 100% means done.
    return state.label + format(" %3d%%", static_cast<int>(fraction(state) * 100));
}

std::string tail(const ProgressState& state) {
    std::string text = std::to_string(state.done);
    if (state.total > 0) {
        text += "/" + std::to_string(state.total);
    }
    const auto advanced = static_cast<double>(state.done - state.start);
    if (advanced > 0 && state.seconds > 0) {
        const double rate = advanced / state.seconds;
        text += rate >= 1 ? format(", %.1f/s", rate) : format(", %.1f s each", 1 / rate);
        if (state.total > state.done) {
            text += ", " + duration_text(double(state.total - state.done) / rate) + " left";
        }
    }
    if (!state.detail.empty()) {
        text += ", " + state.detail;
    }
    return text;
}

// Counts code points, as a terminal does for everything but wide and combining characters, and
// drops control characters, which would move the cursor out of the line.
std::string cut(const std::string& text, int columns) {
    std::string result;
    int used = 0;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const bool continuation = (byte & 0xC0) == 0x80;
        if (byte < 0x20 || byte == 0x7F) {
            continue;
        }
        if (!continuation && ++used > columns) {
            break;
        }
        result += c;
    }
    return result;
}

}  // namespace

std::string duration_text(double seconds) {
    const auto whole = static_cast<long long>(std::clamp(seconds, 0.0, 1e12) + 0.5);
    const long long minutes = whole / 60 % 60;
    const long long hours = whole / 3600;
    if (hours >= 24) {
        return format("%lldd %02lld:%02lld", hours / 24, hours % 24, minutes);
    }
    if (hours > 0) {
        return format("%lld:%02lld:%02lld", hours, minutes, whole % 60);
    }
    return format("%02lld:%02lld", minutes, whole % 60);
}

std::string progress_text(const ProgressState& state) {
    return head(state) + " " + tail(state);
}

std::string progress_line(const ProgressState& state, int columns) {
    const std::string left = head(state) + " ";
    const std::string right = tail(state);
    const int free = columns - static_cast<int>(left.size() + right.size()) - 3;
    if (state.total <= 0 || free < kMinBar) {
        return cut(left + right, columns);
    }
    const int width = std::min(free, kMaxBar);
    const int filled = static_cast<int>(fraction(state) * width);
    return cut(
        left + "[" + std::string(filled, '#') + std::string(width - filled, '-') + "] " + right,
        columns);
}

}  // namespace matrix::log
