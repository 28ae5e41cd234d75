#include "text/unicode.h"

#include <c10/util/Exception.h>

#include <locale.h>
#include <wctype.h>

namespace matrix::text {

namespace {

constexpr char32_t kReplacement = 0xFFFD;

// Length announced by a lead byte, and the smallest code point that needs it.
struct Lead {
    std::size_t bytes;
    char32_t bits;
    char32_t minimum;
};

Lead lead_of(unsigned char byte) {
    if (byte < 0x80) {
        return {1, byte, 0};
    }
    if ((byte & 0xE0) == 0xC0) {
        return {2, byte & 0x1Fu, 0x80};
    }
    if ((byte & 0xF0) == 0xE0) {
        return {3, byte & 0x0Fu, 0x800};
    }
    if ((byte & 0xF8) == 0xF0) {
        return {4, byte & 0x07u, 0x10000};
    }
    return {0, 0, 0};
}

bool is_scalar(char32_t c) {
    return c < 0xD800 || (c >= 0xE000 && c <= 0x10FFFF);
}

}  // namespace

CodePoint front_code_point(std::string_view text) {
    const Lead lead = lead_of(static_cast<unsigned char>(text.front()));
    if (lead.bytes == 0 || lead.bytes > text.size()) {
        return {kReplacement, 1};
    }
    char32_t value = lead.bits;
    for (std::size_t i = 1; i < lead.bytes; ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if ((byte & 0xC0) != 0x80) {
            return {kReplacement, 1};
        }
        value = (value << 6) | (byte & 0x3Fu);
    }
    if (value < lead.minimum || !is_scalar(value)) {
        return {kReplacement, 1};
    }
    return {value, lead.bytes};
}

std::u32string decode_utf8(std::string_view text) {
    std::u32string decoded;
    decoded.reserve(text.size());
    while (!text.empty()) {
        const CodePoint c = front_code_point(text);
        decoded.push_back(c.value);
        text.remove_prefix(c.bytes);
    }
    return decoded;
}

bool is_space(char32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_letter_or_digit(char32_t c) {
    if (c < 0x80) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    }
    // Its own locale object: the answer must not depend on what the program or its host set.
    static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    TORCH_CHECK(locale != nullptr, "the C library has no C.UTF-8 locale");
    return iswalnum_l(static_cast<wint_t>(c), locale) != 0;
}

std::string_view strip_left(std::string_view text) {
    while (!text.empty()) {
        const CodePoint c = front_code_point(text);
        if (!is_space(c.value)) {
            break;
        }
        text.remove_prefix(c.bytes);
    }
    return text;
}

std::string_view strip_right(std::string_view text) {
    // The last white space can only start at one of the last three bytes.
    bool stripped = true;
    while (stripped) {
        stripped = false;
        for (std::size_t bytes = 1; bytes <= 3 && bytes <= text.size(); ++bytes) {
            const CodePoint c = front_code_point(text.substr(text.size() - bytes));
            if (c.bytes == bytes && is_space(c.value)) {
                text.remove_suffix(bytes);
                stripped = true;
                break;
            }
        }
    }
    return text;
}

}  // namespace matrix::text
