#include "cli/synth/captions.h"
#include "cli/synth/choreography.h"
#include "cli/synth/render.h"
#include "cli/synth/scene.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace matrix::synth;

constexpr std::int64_t kScenes = 400;
constexpr std::uint64_t kSeed = 5;
// Chi-square bounds at p = 1e-4: with a fixed seed the tests are deterministic, the bound says what
// would be suspicious.
constexpr double kChiSquare1 = 15.1;
constexpr double kChiSquare2 = 18.4;
constexpr double kChiSquare3 = 21.1;

std::string strip_markers(const std::string& prompt) {
    std::string text = std::regex_replace(prompt, std::regex("<id[0-9]+>"), "");
    text = std::regex_replace(text, std::regex("\\s+"), " ");
    return std::regex_replace(text, std::regex("^ | $"), "");
}

int occurrences(const std::string& text, const std::string& phrase) {
    int count = 0;
    for (std::size_t at = text.find(phrase); at != std::string::npos;
         at = text.find(phrase, at + 1)) {
        const auto is_word = [&](std::size_t i) {
            return i < text.size() && std::isalnum(text[i]) != 0;
        };
        count += !(at > 0 && is_word(at - 1)) && !is_word(at + phrase.size());
    }
    return count;
}

double chi_square(const std::vector<double>& counts) {
    double total = 0.0;
    for (const double count : counts) {
        total += count;
    }
    const double expected = total / static_cast<double>(counts.size());
    double sum = 0.0;
    for (const double count : counts) {
        sum += (count - expected) * (count - expected) / expected;
    }
    return sum;
}

std::vector<Scene> scenes(std::int64_t count = kScenes) {
    std::vector<Scene> result;
    for (std::int64_t clip = 0; clip < count; ++clip) {
        result.push_back(make_scene(kSeed, clip, World{}));
    }
    return result;
}

// --- scenes

TEST(SynthScene, IdsAreIndependentOfTheRole) {
    std::vector<double> subject_of_two(2), subject_of_three(3), object_of_three(3);
    for (const Scene& scene : scenes()) {
        if (scene.actors.size() == 2) {
            ++subject_of_two[scene.lead];
        } else {
            ++subject_of_three[scene.lead];
            ++object_of_three[scene.partner];
        }
    }
    EXPECT_LT(chi_square(subject_of_two), kChiSquare1);
    EXPECT_LT(chi_square(subject_of_three), kChiSquare2);
    EXPECT_LT(chi_square(object_of_three), kChiSquare2);
}

TEST(SynthScene, EveryCharacterTakesEveryRoleAndEitherSide) {
    std::vector<double> subjects(kNumCharacters), objects(kNumCharacters), sides(2), left_ids(2);
    for (const Scene& scene : scenes()) {
        const Actor& subject = scene.actors[scene.lead];
        const Actor& object = scene.actors[scene.partner];
        ++subjects[static_cast<std::size_t>(subject.character)];
        ++objects[static_cast<std::size_t>(object.character)];
        ++sides[subject.ground.x < object.ground.x ? 0 : 1];
        if (scene.actors.size() == 2) {
            ++left_ids[scene.actors[0].ground.x < scene.actors[1].ground.x ? 0 : 1];
        }
        std::set<Character> cast;
        for (const Actor& actor : scene.actors) {
            cast.insert(actor.character);
        }
        EXPECT_EQ(cast.size(), scene.actors.size());
    }
    EXPECT_LT(chi_square(subjects), kChiSquare3);
    EXPECT_LT(chi_square(objects), kChiSquare3);
    EXPECT_LT(chi_square(sides), kChiSquare1);
    EXPECT_LT(chi_square(left_ids), kChiSquare1);
}

TEST(SynthScene, EveryPlayAndSettingOccurs) {
    std::map<Play, int> plays;
    std::map<Family, int> families;
    int crowds = 0;
    for (const Scene& scene : scenes()) {
        ++plays[scene.play];
        ++families[scene.setting.family];
        crowds += scene.actors.size() == 3;
    }
    ASSERT_EQ(plays.size(), 5u);
    ASSERT_EQ(families.size(), 4u);
    for (const auto& [play, count] : plays) {
        EXPECT_GT(count, kScenes / 20) << static_cast<int>(play);
    }
    for (const auto& [family, count] : families) {
        EXPECT_GT(count, kScenes / 6) << static_cast<int>(family);
    }
    EXPECT_GT(crowds, kScenes / 3);
    EXPECT_LT(crowds, 2 * kScenes / 3 + kScenes / 20);
}

TEST(SynthScene, TwinsSwapTheRolesOfTheClipBeforeThem) {
    const std::vector<Scene> all = scenes();
    int twins = 0;
    EXPECT_FALSE(all[0].twin);
    for (std::size_t clip = 1; clip < all.size(); ++clip) {
        const Scene& scene = all[clip];
        const Scene& before = all[clip - 1];
        EXPECT_EQ(scene.twin, is_twin(kSeed, static_cast<std::int64_t>(clip)));
        if (!scene.twin) {
            continue;
        }
        ++twins;
        EXPECT_FALSE(before.twin);
        ASSERT_EQ(scene.actors.size(), before.actors.size());
        EXPECT_EQ(scene.play, before.play);
        EXPECT_EQ(scene.setting.grain, before.setting.grain);
        if (scene.play == Play::kRelay) {
            EXPECT_EQ(scene.lead, before.third.value());
            EXPECT_EQ(scene.third.value(), before.lead);
        } else {
            EXPECT_EQ(scene.lead, before.partner);
            EXPECT_EQ(scene.partner, before.lead);
        }
    }
    EXPECT_NEAR(static_cast<double>(twins) / kScenes, 0.25, 0.06);
}

TEST(SynthScene, TheFirstFrameDoesNotTellTheRoles) {
    int compared = 0;
    for (std::int64_t clip = 1; clip < 60; ++clip) {
        if (!is_twin(kSeed, clip)) {
            continue;
        }
        const World world = world_of(96, 160);
        const Scene twin = make_scene(kSeed, clip, world);
        const Scene first = make_scene(kSeed, clip - 1, world);
        const Picture a = Renderer(twin, 96, 160).draw(choreograph(twin, 17, world).front());
        const Picture b = Renderer(first, 96, 160).draw(choreograph(first, 17, world).front());
        EXPECT_EQ(a.rgb, b.rgb) << clip;
        EXPECT_EQ(a.owner, b.owner) << clip;
        ++compared;
    }
    EXPECT_GT(compared, 5);
}

// --- motion

TEST(SynthMotion, ShowsWhatTheCaptionSays) {
    const World world;
    for (std::int64_t clip = 0; clip < kScenes; ++clip) {
        const Scene scene = make_scene(kSeed, clip, world);
        const auto frames = choreograph(scene, 17, world);
        const auto gap = [&](std::size_t frame, std::size_t a, std::size_t b) {
            return std::hypot(frames[frame][a].ground.x - frames[frame][b].ground.x,
                              frames[frame][a].ground.y - frames[frame][b].ground.y);
        };
        const Pose& object = frames.back()[scene.partner];
        const Point start = scene.actors[scene.partner].ground;
        switch (scene.play) {
            case Play::kPush: {
                const double side = start.x > scene.actors[scene.lead].ground.x ? 1.0 : -1.0;
                EXPECT_GT(side * (object.ground.x - start.x), 12.0) << clip;
                EXPECT_LT(gap(16, scene.lead, scene.partner), 32.0) << clip;
                break;
            }
            case Play::kLift:
                EXPECT_GT(object.height, 20.0) << clip;
                EXPECT_LT(gap(16, scene.lead, scene.partner), 1.0) << clip;
                break;
            case Play::kChase: {
                double way = 0.0;
                for (std::size_t f = 1; f < frames.size(); ++f) {
                    way += std::hypot(
                        frames[f][scene.partner].ground.x - frames[f - 1][scene.partner].ground.x,
                        frames[f][scene.partner].ground.y - frames[f - 1][scene.partner].ground.y);
                }
                EXPECT_GT(way, 80.0) << clip;
                EXPECT_GT(gap(0, scene.lead, scene.partner), 70.0) << clip;
                EXPECT_LT(gap(16, scene.lead, scene.partner), 45.0) << clip;
                break;
            }
            case Play::kHandOver:
                EXPECT_GT(object.height, 20.0) << clip;
                EXPECT_GT(gap(16, scene.lead, scene.partner), 15.0) << clip;
                EXPECT_LT(gap(16, scene.third.value(), scene.partner), 1.0) << clip;
                EXPECT_LT(gap(8, scene.lead, scene.partner), 1.0) << clip;
                break;
            case Play::kRelay: {
                const std::size_t third = scene.third.value();
                EXPECT_GT(std::abs(frames.back()[third].ground.x - scene.actors[third].ground.x),
                          8.0)
                    << clip;
                EXPECT_LT(gap(16, scene.lead, scene.partner),
                          gap(0, scene.lead, scene.partner) - 8.0)
                    << clip;
                break;
            }
        }
        if (scene.bystander) {
            const Pose& watcher = frames.back()[scene.third.value()];
            EXPECT_EQ(watcher.ground.x, scene.actors[scene.third.value()].ground.x);
        }
    }
}

TEST(SynthMotion, EverybodyStaysInThePicture) {
    const World world = world_of(96, 160);
    for (std::int64_t clip = 0; clip < 48; ++clip) {
        const Scene scene = make_scene(kSeed, clip, world);
        const Renderer renderer(scene, 96, 160);
        const auto frames = choreograph(scene, 7, world);
        for (std::size_t frame = 0; frame < frames.size(); ++frame) {
            const Picture picture = renderer.draw(frames[frame]);
            for (std::size_t actor = 0; actor < scene.actors.size(); ++actor) {
                const auto id = static_cast<std::uint8_t>(actor + 1);
                const auto visible = std::count(picture.owner.begin(), picture.owner.end(), id);
                EXPECT_GT(visible, frame == 0 ? 300 : 60)
                    << "clip " << clip << " frame " << frame << " id " << actor + 1;
            }
            for (std::size_t pixel = 0; pixel < picture.owner.size(); ++pixel) {
                const std::size_t row = pixel / 160, column = pixel % 160;
                if (row == 0 || row == 95 || column == 0 || column == 159) {
                    EXPECT_EQ(picture.owner[pixel], 0) << "clip " << clip << " frame " << frame;
                }
            }
        }
    }
}

// --- pictures

TEST(SynthRender, MasksAreTheVisiblePartOfEachCharacter) {
    const World world = world_of(96, 160);
    int hidden = 0;
    for (std::int64_t clip = 0; clip < 12; ++clip) {
        const Scene scene = make_scene(kSeed, clip, world);
        const Renderer renderer(scene, 96, 160);
        const std::vector<Pose> poses = choreograph(scene, 17, world)[8];
        const auto alone = [&](std::size_t actor) {
            std::vector<Pose> away = poses;
            for (std::size_t i = 0; i < away.size(); ++i) {
                away[i].ground.x += i == actor ? 0.0 : 1e4;
            }
            return renderer.draw(away);
        };
        const Picture picture = renderer.draw(poses);
        const Picture empty = alone(scene.actors.size());
        EXPECT_EQ(std::count(empty.owner.begin(), empty.owner.end(), 0), 96 * 160);
        std::vector<bool> anybody(96 * 160, false);
        for (std::size_t actor = 0; actor < scene.actors.size(); ++actor) {
            const auto id = static_cast<std::uint8_t>(actor + 1);
            const Picture solo = alone(actor);
            int same = 0, visible = 0;
            for (std::size_t pixel = 0; pixel < picture.owner.size(); ++pixel) {
                anybody[pixel] = anybody[pixel] || solo.owner[pixel] == id;
                if (picture.owner[pixel] != id) {
                    hidden += solo.owner[pixel] == id;
                    continue;
                }
                EXPECT_EQ(solo.owner[pixel], id);  // what is seen of it is a part of it
                ++visible;
                same += std::equal(&picture.rgb[3 * pixel], &picture.rgb[3 * pixel] + 3,
                                   &empty.rgb[3 * pixel]);
            }
            EXPECT_LT(same, visible / 100) << "the mask covers background, clip " << clip;
        }
        for (std::size_t pixel = 0; pixel < anybody.size(); ++pixel) {
            // Where somebody would be seen alone, somebody is seen; seams between two may belong to
            // neither.
            if (picture.owner[pixel] != 0) {
                EXPECT_TRUE(anybody[pixel]);
            }
        }
    }
    EXPECT_GT(hidden, 100) << "no scene with an occlusion was looked at";
}

TEST(SynthRender, MasksAgreeWithAFinerRendering) {
    for (const std::int64_t clip : {0, 3, 7}) {
        const World world = world_of(96, 160);
        const Scene scene = make_scene(kSeed, clip, world);
        const std::vector<Pose> poses = choreograph(scene, 17, world)[10];
        const Picture coarse = Renderer(scene, 96, 160).draw(poses);
        const Picture fine = Renderer(scene, 4 * 96, 4 * 160).draw(poses);
        for (std::size_t row = 0; row < 96; ++row) {
            for (std::size_t column = 0; column < 160; ++column) {
                for (std::uint8_t id = 1; id <= scene.actors.size(); ++id) {
                    int covered = 0;  // of 16
                    for (std::size_t i = 0; i < 16; ++i) {
                        covered += fine.owner[(4 * row + i / 4) * 640 + 4 * column + i % 4] == id;
                    }
                    const bool owned = coarse.owner[row * 160 + column] == id;
                    if (covered >= 12) {
                        EXPECT_TRUE(owned) << "row " << row << " column " << column;
                    } else if (covered <= 4) {
                        EXPECT_FALSE(owned) << "row " << row << " column " << column;
                    }
                }
            }
        }
    }
}

TEST(SynthRender, FillsFramesOfAnyShape) {
    for (const auto& [height, width] : {std::pair<int, int>{96, 96}, {64, 160}, {192, 256}}) {
        const World world = world_of(height, width);
        EXPECT_GE(world.height, 96.0 - 1e-9);
        EXPECT_GE(world.width, 160.0 - 1e-9);
        const Scene scene = make_scene(kSeed, 0, world);
        const Picture picture =
            Renderer(scene, height, width).draw(choreograph(scene, 5, world).front());
        for (std::uint8_t id = 1; id <= scene.actors.size(); ++id) {
            EXPECT_GT(std::count(picture.owner.begin(), picture.owner.end(), id), 80);
        }
    }
}

// --- captions

TEST(SynthCaption, EveryPhraseOccursOnceAndCarriesItsMarker) {
    std::set<std::string> verbs;
    for (std::int64_t clip = 0; clip < kScenes; ++clip) {
        const Scene scene = make_scene(kSeed, clip, World{});
        const Caption caption = describe(scene, kSeed, clip);
        const std::string text = strip_markers(caption.prompt);
        ASSERT_EQ(caption.interactions.size(), deeds(scene).size());
        for (std::size_t i = 0; i < caption.interactions.size(); ++i) {
            const Interaction& interaction = caption.interactions[i];
            const Deed deed = deeds(scene)[i];
            EXPECT_EQ(interaction.subject.id, static_cast<std::int64_t>(deed.subject) + 1);
            EXPECT_EQ(interaction.object.id, static_cast<std::int64_t>(deed.object) + 1);
            for (const Mention& who : {interaction.subject, interaction.object}) {
                EXPECT_EQ(occurrences(text, who.phrase), 1) << text;
                const std::string marked = "<id" + std::to_string(who.id) + "> " + who.phrase;
                EXPECT_EQ(occurrences(caption.prompt, marked), 1) << caption.prompt;
            }
            EXPECT_EQ(occurrences(text, interaction.verb), 1) << text;
            verbs.insert(interaction.verb);
        }
        for (std::size_t actor = 0; actor < scene.actors.size(); ++actor) {
            EXPECT_EQ(occurrences(text, std::string(character_name(scene.actors[actor].character))),
                      1)
                << text;
        }
        EXPECT_TRUE(std::isupper(static_cast<unsigned char>(text.front()))) << text;
        EXPECT_EQ(text.back(), '.');
        EXPECT_EQ(text.find("  "), std::string::npos);
    }
    EXPECT_THAT(verbs, testing::ElementsAre("chases", "hands over", "is chased", "is handed over",
                                            "is lifted", "is pushed", "lifts", "pushes"));
}

TEST(SynthCaption, SubjectAndObjectBothComeFirst) {
    std::array<int, 2> first{};
    for (std::int64_t clip = 0; clip < kScenes; ++clip) {
        const Caption caption = describe(make_scene(kSeed, clip, World{}), kSeed, clip);
        const Interaction& interaction = caption.interactions.front();
        ++first[caption.prompt.find(interaction.subject.phrase) <
                        caption.prompt.find(interaction.object.phrase)
                    ? 0
                    : 1];
    }
    EXPECT_GT(first[0], kScenes / 2);
    EXPECT_GT(first[1], kScenes / 6);
}

}  // namespace
