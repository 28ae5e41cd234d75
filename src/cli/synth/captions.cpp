#include "cli/synth/captions.h"

#include "cli/synth/stream.h"

#include <array>
#include <cctype>
#include <string_view>

namespace matrix::synth {
namespace {

struct VerbForms {
    std::string_view active;
    std::string_view passive;
};

const VerbForms& forms(Verb verb) {
    static constexpr std::array<VerbForms, 4> kForms = {{{"pushes", "is pushed"},
                                                         {"lifts", "is lifted"},
                                                         {"chases", "is chased"},
                                                         {"hands over", "is handed over"}}};
    return kForms[static_cast<std::size_t>(verb)];
}

std::string_view place(Family family) {
    static constexpr std::array<std::string_view, 4> kPlaces = {
        "on a checkered floor", "on wooden boards", "in a cloudy meadow", "in a dotted room"};
    return kPlaces[static_cast<std::size_t>(family)];
}

std::string_view draw_adverb(Verb verb, Stream& stream) {
    if (stream.chance(0.5)) {
        return "";
    }
    switch (verb) {
        case Verb::kPush:
            return stream.pick<std::string_view>({"firmly", "eagerly"});
        case Verb::kLift:
            return stream.pick<std::string_view>({"proudly", "happily"});
        case Verb::kChase:
            return stream.pick<std::string_view>({"playfully", "eagerly"});
        case Verb::kHandOver:
            return stream.pick<std::string_view>({"kindly", "happily"});
    }
    return "";
}

/// "the <id2> red ball"
std::string mention(const Scene& scene, std::size_t actor, std::string_view article) {
    return std::string(article) + " <id" + std::to_string(actor + 1) + "> " +
           std::string(character_name(scene.actors[actor].character));
}

Mention named(const Scene& scene, std::size_t actor) {
    return {std::string(character_name(scene.actors[actor].character)),
            static_cast<std::int64_t>(actor) + 1};
}

std::string joined(std::initializer_list<std::string_view> words) {
    std::string text;
    for (const std::string_view word : words) {
        if (!word.empty()) {
            text += (text.empty() ? "" : " ");
            text += word;
        }
    }
    return text;
}

/// The clause of the first deed, and what it says the deed with.
struct Clause {
    std::string text;
    std::string_view verb;
};

Clause main_clause(const Scene& scene, const Deed& deed, std::string_view article, Stream& stream) {
    const std::string subject = mention(scene, deed.subject, article);
    const std::string object = mention(scene, deed.object, article);
    const std::string_view adverb = draw_adverb(deed.verb, stream);
    const std::string receiver =
        deed.verb == Verb::kHandOver ? "to " + mention(scene, scene.third.value(), article) : "";
    // A relative clause about the object follows in a relay: it has to stand last.
    const bool passive = stream.chance(0.3) && scene.play != Play::kRelay;
    const VerbForms& verb = forms(deed.verb);
    if (passive) {
        return {joined({object, verb.passive, receiver, adverb, "by", subject}), verb.passive};
    }
    return {joined({subject, adverb, verb.active, object, receiver}), verb.active};
}

}  // namespace

Caption describe(const Scene& scene, std::uint64_t seed, std::int64_t clip) {
    Stream stream(seed, clip, Draw::kCaption);
    const std::string_view article = stream.chance(0.5) ? "the" : "a";
    const std::vector<Deed> all = deeds(scene);
    const Clause clause = main_clause(scene, all.front(), article, stream);

    Caption caption;
    caption.interactions.push_back({named(scene, all.front().subject), std::string(clause.verb),
                                    named(scene, all.front().object)});
    std::string text = clause.text;
    if (scene.play == Play::kRelay) {
        const Deed& second = all.at(1);
        const std::string_view verb = forms(second.verb).active;
        text += joined({stream.chance(0.5) ? " that" : ", which", verb,
                        mention(scene, second.object, article)});
        caption.interactions.push_back(
            {named(scene, second.subject), std::string(verb), named(scene, second.object)});
    }
    const bool place_first = stream.chance(0.35);
    const std::string where(place(scene.setting.family));
    text = place_first ? where + ", " + text : text + " " + where;
    if (scene.bystander) {
        const std::string watcher = mention(scene, scene.third.value(), article);
        text += stream.chance(0.5) ? " while " + watcher + " watches"
                                   : ", and " + watcher + " looks on";
    }
    text += ".";
    text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
    caption.prompt = text;
    return caption;
}

}  // namespace matrix::synth
