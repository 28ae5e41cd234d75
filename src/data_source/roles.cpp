#include "matrix/data_source/roles.h"

#include "data_source/caption_words.h"
#include "matrix/core/error.h"
#include "matrix/data_source/interactions.h"
#include "matrix/text/phrases.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>

namespace matrix::data_source {
namespace {

constexpr std::int64_t kMaxId = 5;

// A marker and the noun phrase behind it: words [begin, end).
struct Mention {
    std::int64_t id = 0;
    std::size_t marker = 0;
    std::size_t begin = 0, end = 0;
};

// Words [begin, end) of a verb with what belongs to it.
struct Verb {
    std::size_t begin = 0, end = 0;
    bool passive = false;      ///< "is held by"
    bool coordinated = false;  ///< "and hands": of the subject before, not of the words around it
    bool participle = false;   ///< ", wearing": describes, where a verb follows
};

class Reader {
public:
    explicit Reader(std::string_view prompt)
        : prompt_(prompt), stripped_(text::strip_id_markers(prompt)), words_(words_of(prompt)) {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            if (words_[i].marker != 0) {
                add_mention(i);
            }
        }
    }

    std::vector<Interaction> read() {
        for (std::size_t k = 0; k < mentions_.size(); ++k) {
            read_mention(k);
        }
        return std::move(found_);
    }

private:
    void add_mention(std::size_t marker) {
        Mention mention{words_[marker].marker, marker, marker + 1, marker + 1};
        while (plain(mention.begin) && is_determiner(words_[mention.begin].lower)) {
            ++mention.begin;
        }
        mention.end = mention.begin;
        while (plain(mention.end) &&
               (mention.end == mention.begin || in_noun_phrase(mention.end))) {
            ++mention.end;
        }
        if (mention.end > mention.begin && mention.id >= 1 && mention.id <= kMaxId) {
            mentions_.push_back(mention);
        }
    }

    // A word proper, not parted from the one before by punctuation.
    [[nodiscard]] bool plain(std::size_t i) const {
        return i < words_.size() && words_[i].marker == 0 && words_[i].before == Break::kNone;
    }

    [[nodiscard]] bool in_noun_phrase(std::size_t i) const {
        const std::string& word = words_[i].lower;
        return !is_determiner(word) && !is_preposition(word) && !is_conjunction(word) &&
               !is_auxiliary(word) && !is_particle(word) && !is_adverb(word) && !is_verb(i);
    }

    // A noun may have a verb's shape: what stands around it decides.
    [[nodiscard]] bool is_verb(std::size_t i) const {
        const std::string& word = words_[i].lower;
        const std::string before = plain(i) && i > 0 ? words_[i - 1].lower : "";
        if (is_determiner(before) || (is_preposition(before) && before != "to")) {
            return false;
        }
        const bool noun_follows = i + 1 < words_.size() && words_[i + 1].before == Break::kNone &&
                                  (words_[i + 1].marker != 0 || is_determiner(words_[i + 1].lower));
        switch (verb_form(word)) {
            case VerbForm::kFinite:
            case VerbForm::kIng:
                return true;
            case VerbForm::kBase:
                return noun_follows || before == "to" || is_conjunction(before) ||
                       is_plural(before);
            case VerbForm::kNone:
                break;
        }
        return noun_follows && !is_determiner(word) && looks_like_a_verb(word) &&
               !is_auxiliary(word) && !is_preposition(word) && !is_conjunction(word);
    }

    // The verb that begins at `i`, auxiliaries first.
    [[nodiscard]] std::optional<Verb> verb_at(std::size_t i, std::size_t limit) const {
        Verb verb{i, i};
        bool auxiliary = false, be = false;
        while (verb.end < limit && (verb.end == i || plain(verb.end))) {
            const std::string& word = words_[verb.end].lower;
            if (is_auxiliary(word)) {
                auxiliary = true;
                be = be || word == "is" || word == "are" || word == "was" || word == "were" ||
                     word.starts_with("be");
            } else if (!auxiliary || (!is_adverb(word) && word != "to" && word != "about")) {
                break;
            }
            ++verb.end;
        }
        if (verb.end >= limit || (verb.end > i && !plain(verb.end))) {
            return std::nullopt;
        }
        const std::string& word = words_[verb.end].lower;
        const bool after_auxiliary = auxiliary && (verb_form(word) != VerbForm::kNone ||
                                                   word.ends_with("ing") || word.ends_with("ed"));
        if (!after_auxiliary && (auxiliary || !is_verb(verb.end))) {
            return std::nullopt;
        }
        verb.participle = !auxiliary && word.ends_with("ing") && words_[i].before == Break::kComma;
        ++verb.end;
        verb.passive = be && !word.ends_with("ing") && verb.end < limit && plain(verb.end) &&
                       words_[verb.end].lower == "by";
        take_particles(verb, limit);
        return verb;
    }

    // "picks up", "talks to" before the object; of "sits in a chair with" the verb alone.
    void take_particles(Verb& verb, std::size_t limit) const {
        const auto word_at = [&](std::size_t i) -> const std::string& { return words_[i].lower; };
        while (verb.end < limit && plain(verb.end) && is_particle(word_at(verb.end))) {
            ++verb.end;
        }
        if (limit >= words_.size() || words_[limit].marker == 0) {
            return;
        }
        std::size_t end = verb.end;
        while (end < limit && plain(end) && is_preposition(word_at(end))) {
            ++end;
        }
        for (std::size_t i = end; i < limit; ++i) {
            if (is_preposition(word_at(i)) || is_conjunction(word_at(i)) || !plain(i)) {
                return;
            }
        }
        verb.end = end;
    }

    // The first verb of words [begin, limit) that does more than describe.
    [[nodiscard]] std::optional<Verb> find_verb(std::size_t begin, std::size_t limit) const {
        std::optional<Verb> described;
        for (std::size_t i = begin; i < limit; ++i) {
            std::optional<Verb> verb = verb_at(i, limit);
            if (!verb) {
                continue;
            }
            std::size_t before = i;
            while (before > begin && is_adverb(words_[before - 1].lower) &&
                   !is_conjunction(words_[before - 1].lower)) {
                --before;
            }
            verb->coordinated = words_[before].before == Break::kComma ||
                                (before > begin && is_conjunction(words_[before - 1].lower));
            if (!verb->participle) {
                return verb;
            }
            described = described ? described : verb;
        }
        return described;
    }

    void read_mention(std::size_t k) {
        const Mention& mention = mentions_[k];
        const std::size_t next = k + 1 < mentions_.size() ? mentions_[k + 1].marker : words_.size();
        std::size_t limit = mention.end;
        while (limit < next && words_[limit].before != Break::kSentence) {
            ++limit;
        }
        const bool clause_goes_on =
            k + 1 < mentions_.size() && limit == next && words_[next].before != Break::kSentence;
        const bool is_object = objects_ == k;
        const std::optional<Verb> verb = find_verb(mention.end, limit);
        if (!verb) {
            read_conjunction(k, clause_goes_on, is_object);
            return;
        }
        if (!(is_object && verb->coordinated)) {
            if (is_object) {
                subjects_.clear();
            }
            subjects_.push_back(k);
        }
        const bool has_object = clause_goes_on && reaches(verb->end, next);
        verb_ = *verb;
        propose(has_object ? std::optional(k + 1) : std::nullopt);
        objects_ = has_object ? std::optional(k + 1) : std::nullopt;
        if (!has_object) {
            subjects_.clear();
        }
    }

    // No clause begins between the verb and the marker.
    [[nodiscard]] bool reaches(std::size_t begin, std::size_t marker) const {
        for (std::size_t i = begin; i <= marker; ++i) {
            if (words_[i].before != Break::kNone || is_conjunction(words_[i].lower)) {
                return false;
            }
        }
        return true;
    }

    // "a man and a woman": both are subjects, or both are objects.
    void read_conjunction(std::size_t k, bool clause_goes_on, bool is_object) {
        std::size_t i = mentions_[k].end;
        const std::size_t next = clause_goes_on ? mentions_[k + 1].marker : i;
        bool joined =
            clause_goes_on && (words_[i].before == Break::kComma || words_[i].lower == "and");
        for (; joined && i < next; ++i) {
            const std::string& word = words_[i].lower;
            joined = word == "and" || (!is_conjunction(word) && !is_preposition(word));
        }
        if (joined && is_object) {
            propose(k + 1);
            objects_ = k + 1;
        } else if (joined) {
            subjects_.push_back(k);
        } else {
            subjects_.clear();
            objects_.reset();
        }
    }

    void propose(std::optional<std::size_t> object) {
        for (const std::size_t subject : subjects_) {
            Interaction found;
            found.proposed = true;
            found.subject = phrase_of(mentions_[subject]);
            found.verb = phrase(verb_.begin, verb_.end);
            if (object) {
                found.object = phrase_of(mentions_[*object]);
                if (found.object->id == found.subject.id) {
                    continue;
                }
                if (verb_.passive) {
                    std::swap(found.subject, *found.object);
                }
            }
            found_.push_back(std::move(found));
        }
    }

    [[nodiscard]] Phrase phrase_of(const Mention& mention) const {
        Phrase words = phrase(mention.begin, mention.end);
        words.id = mention.id;
        return words;
    }

    [[nodiscard]] Phrase phrase(std::size_t begin, std::size_t end) const {
        const std::size_t first = words_[begin].begin;
        Phrase words;
        words.text = text::strip_id_markers(prompt_.substr(first, words_[end - 1].end - first));
        try {
            (void)text::find_phrase(stripped_, words.text);
        } catch (const RunError&) {  // it occurs again
            const std::string before =
                text::strip_id_markers(std::string(prompt_.substr(0, first)) + "x");
            words.start =
                std::ranges::count_if(
                    before, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }) -
                1;
        }
        return words;
    }

    std::string_view prompt_;
    std::string stripped_;
    std::vector<Word> words_;
    std::vector<Mention> mentions_;
    std::vector<std::size_t> subjects_;   ///< of the clause that is being read
    std::optional<std::size_t> objects_;  ///< the mention that is its latest object
    Verb verb_;
    std::vector<Interaction> found_;
};

// Bytes at which `label` stands in the prompt as whole words, whatever its case.
std::vector<std::size_t> occurrences(const std::vector<Word>& prompt, const std::string& label) {
    std::vector<std::size_t> found;
    const std::vector<Word> words = words_of(label);
    if (words.empty()) {
        return found;
    }
    for (std::size_t i = 0; i + words.size() <= prompt.size(); ++i) {
        const bool equal =
            std::equal(words.begin(), words.end(), prompt.begin() + static_cast<std::ptrdiff_t>(i),
                       [](const Word& a, const Word& b) { return a.lower == b.lower; });
        if (equal) {
            found.push_back(prompt[i].begin);
        }
    }
    return found;
}

bool has_all(const Interaction& interaction, const std::set<std::int64_t>& ids) {
    return ids.contains(interaction.subject.id) &&
           (!interaction.object || ids.contains(interaction.object->id));
}

}  // namespace

std::vector<Interaction> propose_roles(std::string_view prompt) {
    return Reader(prompt).read();
}

std::string mark_instances(std::string_view prompt,
                           const std::map<std::int64_t, std::string>& labels) {
    std::string marked(prompt);
    const std::vector<Word> words = words_of(prompt);
    if (std::ranges::any_of(words, [](const Word& word) { return word.marker != 0; })) {
        return marked;
    }
    std::map<std::string, std::vector<std::int64_t>> ids_of;
    for (const auto& [id, label] : labels) {
        ids_of[label].push_back(id);
    }
    std::map<std::size_t, std::int64_t> places;
    for (const auto& [label, ids] : ids_of) {
        const std::vector<std::size_t> at = occurrences(words, label);
        for (std::size_t i = 0; i < ids.size() && at.size() == ids.size(); ++i) {
            places.emplace(at[i], ids[i]);
        }
    }
    for (auto it = places.rbegin(); it != places.rend(); ++it) {
        marked.insert(it->first, "<id" + std::to_string(it->second) + "> ");
    }
    return marked;
}

std::size_t propose_into(nlohmann::json& row, const std::set<std::int64_t>& ids,
                         const std::map<std::int64_t, std::string>& labels) {
    const auto given = row.find("interactions");
    if (given != row.end() && !given->empty()) {  // null counts as empty
        return 0;
    }
    const std::string marked = mark_instances(row.at("prompt").get<std::string>(), labels);
    std::vector<Interaction> found = propose_roles(marked);
    std::erase_if(found, [&](const Interaction& i) { return !has_all(i, ids); });
    if (!found.empty()) {
        row["prompt"] = marked;
        row["interactions"] = write_interactions(found);
    }
    return found.size();
}

}  // namespace matrix::data_source
