#include "eval/secret.h"

#include <algorithm>
#include <charconv>

namespace matrix::eval {
namespace {

constexpr std::size_t kShortestSecret = 8;
constexpr std::size_t kCodeDigits = 4;

/// Is there, at `at`, "u" and the hexadecimal code of `wanted`?
bool is_code_of(char wanted, std::string_view text, std::size_t at) {
    if (at + kCodeDigits >= text.size() || text[at] != 'u') {
        return false;
    }
    const char* digits = text.data() + at + 1;
    unsigned code = 0;
    const auto [end, fault] = std::from_chars(digits, digits + kCodeDigits, code, 16);
    return fault == std::errc() && end == digits + kCodeDigits &&
           code == static_cast<unsigned char>(wanted);
}

/// Where the occurrence of `secret` that begins at `begin` ends, or npos. Backslashes count
/// nowhere: how many there are depends on how often the text was escaped.
std::size_t end_of(std::string_view secret, std::string_view text, std::size_t begin) {
    std::size_t at = begin;
    for (const char wanted : secret) {
        const std::size_t next = text.find_first_not_of('\\', at);
        if (next == std::string_view::npos) {
            return next;
        }
        if (next > at && is_code_of(wanted, text, next)) {
            at = next + 1 + kCodeDigits;
        } else if (text[next] == wanted) {
            at = next + 1;
        } else {
            return std::string_view::npos;
        }
    }
    return at;
}

}  // namespace

std::string without_secret(std::string_view text, std::string_view secret) {
    if (secret.size() < kShortestSecret) {
        return std::string(text);
    }
    std::string plain(secret);
    std::erase(plain, '\\');
    std::string result;
    for (std::size_t at = 0; at < text.size();) {
        if (const std::size_t end = end_of(plain, text, at); end != std::string_view::npos) {
            result += "***";
            at = std::max(end, at + 1);
            continue;
        }
        // A long run of backslashes is gone through once.
        const std::size_t next =
            std::min(std::max(text.find_first_not_of('\\', at), at + 1), text.size());
        result.append(text, at, next - at);
        at = next;
    }
    return result;
}

}  // namespace matrix::eval
