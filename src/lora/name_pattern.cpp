#include "lora/name_pattern.h"

#include <algorithm>
#include <bitset>
#include <cctype>
#include <vector>

#include "lora/names.h"
#include "matrix/core/error.h"

namespace matrix::lora {
namespace {

constexpr std::size_t kLongestPattern = 1000;
constexpr int kDeepestGroup = 50;
constexpr std::size_t kMostRepeats = 100'000;

/// Which spans of the name a piece of the pattern matches: row i, bit j for the characters i..j-1.
/// Every piece is a product, sum, power or closure of smaller ones, so nothing is ever tried twice.
using Ends = std::bitset<kLongestLinear + 1>;
using Spans = std::vector<Ends>;
using CharacterSet = std::bitset<256>;

Spans joined(const Spans& first, const Spans& second) {
    Spans result(first.size());
    for (std::size_t i = 0; i < first.size(); ++i) {
        for (std::size_t j = i; j < first.size(); ++j) {
            if (first[i][j]) {
                result[i] |= second[j];
            }
        }
    }
    return result;
}

Spans either(Spans first, const Spans& second) {
    for (std::size_t i = 0; i < first.size(); ++i) {
        first[i] |= second[i];
    }
    return first;
}

Spans nothing(std::size_t positions) {
    Spans result(positions);
    for (std::size_t i = 0; i < positions; ++i) {
        result[i].set(i);
    }
    return result;
}

Spans power(Spans base, std::size_t exponent) {
    Spans result = nothing(base.size());
    for (; exponent > 0; exponent /= 2) {
        if (exponent % 2 == 1) {
            result = joined(result, base);
        }
        base = joined(base, base);
    }
    return result;
}

/// Any number of times: a name of n characters cannot hold more than n pieces that are not empty.
Spans repeated(const Spans& piece) {
    return power(either(piece, nothing(piece.size())), piece.size());
}

CharacterSet characters(bool (*contains)(int), bool complement) {
    CharacterSet set;
    for (int c = 0; c < 256; ++c) {
        set.set(static_cast<std::size_t>(c), (c < 128 && contains(c)) != complement);
    }
    return set;
}

class Parser {
public:
    Parser(std::string_view pattern, std::string_view name, std::string where)
        : rest_(pattern), name_(name), where_(std::move(where)) {
        if (pattern.size() > kLongestPattern) {
            refuse("longer than " + std::to_string(kLongestPattern) + " characters");
        }
    }

    Spans parse() {
        Spans spans = alternatives();
        if (!rest_.empty()) {
            refuse("an unmatched )");
        }
        return spans;
    }

private:
    [[noreturn]] void refuse(const std::string& fault) const {
        throw RunError(where_ + ": " + fault);
    }
    [[nodiscard]] std::size_t positions() const { return name_.size() + 1; }
    [[nodiscard]] bool take(std::string_view text) {
        const bool there = rest_.starts_with(text);
        rest_.remove_prefix(there ? text.size() : 0);
        return there;
    }
    char next() {
        if (rest_.empty()) {
            refuse("ends too early");
        }
        const char c = rest_.front();
        rest_.remove_prefix(1);
        return c;
    }

    Spans alternatives() {
        Spans spans = sequence();
        while (take("|")) {
            spans = either(std::move(spans), sequence());
        }
        return spans;
    }

    Spans sequence() {
        Spans spans = nothing(positions());
        while (!rest_.empty() && rest_.front() != '|' && rest_.front() != ')') {
            spans = joined(spans, quantified());
        }
        return spans;
    }

    Spans quantified() {
        Spans piece = atom();
        const Spans empty = nothing(positions());
        if (take("*")) {
            piece = repeated(piece);
        } else if (take("+")) {
            piece = joined(piece, repeated(piece));
        } else if (take("?")) {
            piece = either(std::move(piece), empty);
        } else if (take("{")) {
            piece = counted(piece);
        } else {
            return piece;
        }
        static_cast<void>(take("?"));  // lazy: another order of trying, the same matches
        if (!rest_.empty() &&
            std::string_view("*+?{").find(rest_.front()) != std::string_view::npos) {
            refuse("a repeat of a repeat");
        }
        return piece;
    }

    Spans counted(const Spans& piece) {
        const std::size_t least = number();
        const bool range = take(",");
        const bool open = range && rest_.starts_with("}");
        const std::size_t most = open || !range ? least : number();
        if (!take("}") || most < least) {
            refuse("a { that begins no {m}, {m,} or {m,n}");
        }
        const Spans at_least = power(piece, least);
        return joined(at_least, open ? repeated(piece)
                                     : power(either(piece, nothing(positions())), most - least));
    }

    std::size_t number() {
        std::size_t value = 0;
        if (rest_.empty() || std::isdigit(static_cast<unsigned char>(rest_.front())) == 0) {
            refuse("a { that begins no {m}, {m,} or {m,n}");
        }
        while (!rest_.empty() && std::isdigit(static_cast<unsigned char>(rest_.front())) != 0) {
            value = value * 10 + static_cast<std::size_t>(next() - '0');
            if (value > kMostRepeats) {
                refuse("repeats more than " + std::to_string(kMostRepeats) + " times");
            }
        }
        return value;
    }

    Spans atom() {
        if (take("(")) {
            return group();
        }
        if (take("[")) {
            return one_of(character_class());
        }
        const char c = next();
        if (c == '^' || c == '$') {
            Spans spans(positions());
            const std::size_t at = c == '^' ? 0 : name_.size();
            spans[at].set(at);
            return spans;
        }
        if (std::string_view("*+?{").find(c) != std::string_view::npos) {
            refuse(std::string("nothing to repeat before ") + c);
        }
        CharacterSet set;
        if (c == '.') {
            set.set();
            set.reset('\n');
        } else if (c == '\\') {
            set = escaped();
        } else {
            set.set(static_cast<unsigned char>(c));
        }
        return one_of(set);
    }

    Spans group() {
        if (++depth_ > kDeepestGroup) {
            refuse("groups nested deeper than " + std::to_string(kDeepestGroup));
        }
        if (!take("?:") && rest_.starts_with("?")) {
            refuse("(? other than (?: is not supported");
        }
        Spans spans = alternatives();
        if (!take(")")) {
            refuse("a ( without its )");
        }
        --depth_;
        return spans;
    }

    CharacterSet escaped() {
        const char c = next();
        const auto word = [](int x) { return std::isalnum(x) != 0 || x == '_'; };
        const auto digit = [](int x) { return std::isdigit(x) != 0; };
        const auto space = [](int x) { return std::isspace(x) != 0; };
        switch (c) {
            case 'd':
            case 'D':
                return characters(digit, c == 'D');
            case 'w':
            case 'W':
                return characters(word, c == 'W');
            case 's':
            case 'S':
                return characters(space, c == 'S');
            default:
                break;
        }
        if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
            refuse(std::string("\\") + c + " is not supported");
        }
        return CharacterSet().set(static_cast<unsigned char>(c));
    }

    CharacterSet character_class() {
        CharacterSet set;
        const bool complement = take("^");
        for (bool first = true; first || !rest_.starts_with("]"); first = false) {
            const char c = next();
            if (c == '\\') {
                set |= escaped();
            } else if (rest_.size() > 1 && rest_[0] == '-' && rest_[1] != ']') {
                rest_.remove_prefix(1);
                const auto from = static_cast<unsigned char>(c);
                const auto to = static_cast<unsigned char>(next());
                if (to == '\\' || to < from) {
                    refuse("a range in [] that does not ascend");
                }
                for (unsigned x = from; x <= to; ++x) {
                    set.set(x);
                }
            } else {
                set.set(static_cast<unsigned char>(c));
            }
        }
        static_cast<void>(take("]"));
        return complement ? ~set : set;
    }

    [[nodiscard]] Spans one_of(const CharacterSet& set) const {
        Spans spans(positions());
        for (std::size_t i = 0; i < name_.size(); ++i) {
            spans[i].set(i + 1, set[static_cast<unsigned char>(name_[i])]);
        }
        return spans;
    }

    std::string_view rest_;
    std::string_view name_;
    std::string where_;
    int depth_ = 0;
};

}  // namespace

void check_name_pattern(std::string_view pattern, const std::string& where) {
    static_cast<void>(
        Parser(pattern, "", where + "." + std::string(pattern.substr(0, 80))).parse());
}

bool matches_name_end(std::string_view pattern, std::string_view name) {
    const Spans spans = Parser(pattern, name, std::string(pattern)).parse();
    for (std::size_t i = 0; i <= name.size(); ++i) {
        if ((i == 0 || name[i - 1] == '.') && spans[i][name.size()]) {
            return true;
        }
    }
    return false;
}

}  // namespace matrix::lora
