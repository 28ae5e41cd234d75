#include "data_source/caption_words.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

namespace matrix::data_source {
namespace {

using Words = std::set<std::string, std::less<>>;

// The verbs of captions about interactions; others are known by what stands around them.
const Words kVerbs = {
    "approach", "ask",     "beat",   "bend",   "bite",    "block",   "blow",    "bounce",
    "break",    "bring",   "brush",  "build",  "bump",    "carry",   "catch",   "chase",
    "chop",     "clap",    "clean",  "climb",  "close",   "comb",    "cover",   "cradle",
    "cross",    "cuddle",  "cut",    "dance",  "dip",     "drag",    "draw",    "dribble",
    "drink",    "drive",   "drop",   "dry",    "eat",     "embrace", "enter",   "examine",
    "face",     "feed",    "fight",  "fill",   "fix",     "flip",    "fold",    "follow",
    "gaze",     "give",    "grab",   "grasp",  "greet",   "grip",    "guide",   "hammer",
    "hand",     "hang",    "help",   "hit",    "hold",    "hug",     "inspect", "jump",
    "kick",     "kiss",    "kneel",  "knock",  "lay",     "lead",    "lean",    "leave",
    "lick",     "lift",    "listen", "load",   "look",    "lower",   "massage", "measure",
    "mix",      "move",    "nudge",  "offer",  "open",    "paint",   "pass",    "pat",
    "peel",     "pet",     "pick",   "place",  "play",    "point",   "poke",    "pour",
    "press",    "pull",    "punch",  "push",   "put",     "raise",   "reach",   "read",
    "receive",  "release", "remove", "repair", "rest",    "ride",    "roll",    "row",
    "rub",      "run",     "scrub",  "serve",  "shake",   "shoot",   "show",    "sit",
    "slap",     "slice",   "slide",  "smell",  "smile",   "sniff",   "speak",   "spin",
    "splash",   "squeeze", "stack",  "stand",  "stare",   "stir",    "stroke",  "surround",
    "sweep",    "swing",   "take",   "talk",   "tap",     "teach",   "tear",    "throw",
    "tickle",   "tie",     "toss",   "touch",  "trim",    "turn",    "twist",   "type",
    "use",      "walk",    "wash",   "watch",  "water",   "wave",    "wear",    "weigh",
    "whip",     "whisper", "wipe",   "wrap",   "wrestle", "write"};
const Words kIrregular = {
    "ate",     "beaten", "bent",   "bit",   "bitten", "blew",  "blown",  "broke",  "broken",
    "brought", "built",  "caught", "cut",   "drank",  "drew",  "drawn",  "drove",  "driven",
    "eaten",   "fed",    "fought", "gave",  "given",  "held",  "hit",    "hung",   "knelt",
    "laid",    "leant",  "led",    "left",  "put",    "ran",   "read",   "ridden", "rode",
    "sat",     "shook",  "shaken", "shot",  "shown",  "slid",  "spoke",  "spoken", "spun",
    "stood",   "swept",  "swung",  "taken", "taught", "threw", "thrown", "took",   "tore",
    "torn",    "wore",   "worn",   "wrote", "written"};
const Words kDeterminers = {
    "a",     "an",    "the",  "another", "this",  "that", "these", "those", "his", "her",
    "its",   "their", "my",   "your",    "our",   "some", "each",  "both",  "one", "two",
    "three", "four",  "five", "several", "other", "many", "every", "any",   "no"};
const Words kPrepositions = {
    "to",   "at",    "with",   "on",     "onto",    "into",   "toward", "towards", "from",
    "in",   "of",    "for",    "by",     "against", "around", "across", "through", "after",
    "near", "over",  "under",  "behind", "beside",  "along",  "above",  "below",   "between",
    "next", "about", "inside", "before", "without", "upon",   "past",   "atop"};
const Words kParticles = {"up",   "down",     "off",     "out",  "away",
                          "back", "together", "forward", "aside"};
const Words kConjunctions = {"and", "or",    "but",  "then",  "while", "as",    "when",
                             "who", "which", "that", "until", "so",    "where", "because"};
const Words kAuxiliaries = {"is",        "are",       "was",    "were",    "be",    "been",
                            "being",     "has",       "have",   "had",     "can",   "could",
                            "will",      "would",     "may",    "does",    "do",    "did",
                            "begins",    "began",     "starts", "started", "tries", "tried",
                            "continues", "continued", "keeps",  "kept"};
const Words kAdverbs = {"then", "now", "also", "still", "just", "again", "soon", "not"};
const Words kPlurals = {"men", "women", "people", "children", "they", "feet", "mice", "sheep"};

bool is_word_byte(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '\'' || c == '-' ||
           static_cast<unsigned char>(c) >= 0x80;
}

// N of a marker that starts at `at`, and the byte behind it; 0 if there is none.
std::int64_t marker_at(std::string_view text, std::size_t at, std::size_t& end) {
    std::size_t i = at + 3;
    if (text.substr(at, 3) != "<id") {
        return 0;
    }
    std::int64_t number = 0;
    while (i < text.size() && i < at + 9 && text[i] >= '0' && text[i] <= '9') {
        number = number * 10 + (text[i++] - '0');
    }
    if (i == at + 3 || i >= text.size() || text[i] != '>') {
        return 0;
    }
    end = i + 1;
    return number;
}

Break break_of(char c) {
    constexpr std::string_view kSentenceMarks = ".;!?:";
    constexpr std::string_view kCommas = ",()\"";
    return kSentenceMarks.find(c) != std::string_view::npos ? Break::kSentence
           : kCommas.find(c) != std::string_view::npos      ? Break::kComma
                                                            : Break::kNone;
}

bool is_verb_stem(std::string stem) {
    if (kVerbs.contains(stem) || kVerbs.contains(stem + "e")) {
        return true;
    }
    const std::size_t n = stem.size();
    if (n > 1 && stem[n - 1] == 'i') {  // carri-ed, carri-es
        return kVerbs.contains(stem.substr(0, n - 1) + "y");
    }
    if (n > 2 && stem[n - 1] == stem[n - 2]) {  // hugg-ing
        return kVerbs.contains(stem.substr(0, n - 1));
    }
    return false;
}

bool strip_ending(const std::string& word, std::string_view ending, std::string& stem) {
    if (word.size() < ending.size() + 2 || !word.ends_with(ending)) {
        return false;
    }
    stem = word.substr(0, word.size() - ending.size());
    return true;
}

}  // namespace

std::vector<Word> words_of(std::string_view caption) {
    std::vector<Word> words;
    Break pending = Break::kNone;
    for (std::size_t i = 0; i < caption.size();) {
        Word word;
        word.begin = i;
        word.marker = marker_at(caption, i, word.end);
        if (word.marker == 0 && !is_word_byte(caption[i])) {
            pending = std::max(pending, break_of(caption[i++]));
            continue;
        }
        if (word.marker == 0) {
            while (i < caption.size() && is_word_byte(caption[i])) {
                word.lower +=
                    static_cast<char>(std::tolower(static_cast<unsigned char>(caption[i++])));
            }
            word.end = i;
        }
        i = word.end;
        word.before = std::exchange(pending, Break::kNone);
        words.push_back(std::move(word));
    }
    return words;
}

VerbForm verb_form(const std::string& lower) {
    std::string stem;
    if (kIrregular.contains(lower)) {
        return VerbForm::kFinite;
    }
    if (kVerbs.contains(lower)) {
        return VerbForm::kBase;
    }
    if (strip_ending(lower, "ing", stem) && is_verb_stem(stem)) {
        return VerbForm::kIng;
    }
    for (const char* ending : {"ed", "es", "s"}) {
        if (strip_ending(lower, ending, stem) && is_verb_stem(stem)) {
            return VerbForm::kFinite;
        }
    }
    return VerbForm::kNone;
}

bool looks_like_a_verb(const std::string& lower) {
    std::string stem;
    return (strip_ending(lower, "ing", stem) && stem.size() > 2) ||
           (strip_ending(lower, "ed", stem) && stem.size() > 2) ||
           (strip_ending(lower, "s", stem) && !stem.ends_with('s') && !stem.ends_with('u') &&
            !stem.ends_with('\''));
}

bool is_determiner(const std::string& lower) {
    return kDeterminers.contains(lower);
}

bool is_preposition(const std::string& lower) {
    return kPrepositions.contains(lower);
}

bool is_particle(const std::string& lower) {
    return kParticles.contains(lower);
}

bool is_conjunction(const std::string& lower) {
    return kConjunctions.contains(lower);
}

bool is_auxiliary(const std::string& lower) {
    return kAuxiliaries.contains(lower);
}

bool is_adverb(const std::string& lower) {
    return kAdverbs.contains(lower) || (lower.size() > 4 && lower.ends_with("ly"));
}

bool is_plural(const std::string& lower) {
    return kPlurals.contains(lower) || (lower.ends_with('s') && !lower.ends_with("ss"));
}

}  // namespace matrix::data_source
