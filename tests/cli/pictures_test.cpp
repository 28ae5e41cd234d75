#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "cli/pictures/attention_maps.h"
#include "cli/pictures/curves.h"
#include "cli/pictures/floors.h"
#include "cli/pictures/history.h"
#include "cli/pictures/sheet.h"
#include "cli/pictures/swapped_roles.h"
#include "matrix/alignment/losses.h"

namespace matrix::cli::pictures {
namespace {

namespace fs = std::filesystem;

fs::path temporary_file(const std::string& name) {
    return fs::temp_directory_path() / (std::to_string(::getpid()) + "-" + name);
}

data_source::Row row_of(const std::string& prompt, const data_source::Phrase& subject,
                        const data_source::Phrase& verb, const data_source::Phrase& object) {
    data_source::Row row;
    row.prompt = prompt;
    row.interactions = {{subject, verb, object}};
    return row;
}

TEST(Floors, NoConstantLogitBeatsThem) {
    alignment::AlignmentConfig config;
    const std::int64_t side = 32;
    for (const std::int64_t positives : {0, 3, 100, 512, 1024}) {
        at::Tensor target = at::zeros({side * side}, at::kByte);
        target.narrow(0, 0, positives).fill_(1);
        double best = std::numeric_limits<double>::infinity();
        for (double logit = -12.0; logit <= 12.0; logit += 0.05) {
            const at::Tensor logits = at::full({1, 1, side, side}, logit, at::kDouble);
            best =
                std::min(best, alignment::mask_loss(logits, target.view({1, 1, side, side}), config)
                                   .total.item<double>());
        }
        const double floor = constant_mask_loss(positives, side * side, config);
        EXPECT_LE(floor, best + 1e-9) << positives;
        EXPECT_NEAR(floor, best, 1e-3)
            << positives;  // the coarser scan above misses the minimum by its step
    }
}

TEST(Floors, FollowTheWeightsOfTheLoss) {
    alignment::AlignmentConfig config;
    config.dice = config.l2 = 0.0;
    // Cross-entropy alone: the entropy of the share.
    EXPECT_NEAR(constant_mask_loss(10, 100, config), -(0.1 * std::log(0.1) + 0.9 * std::log(0.9)),
                1e-5);
    config.bce = 0.0;
    config.l2 = 1.0;
    EXPECT_NEAR(constant_mask_loss(10, 100, config), 0.09, 1e-6);
}

TEST(History, TakesUpTheRecordsOfAnEarlierProcess) {
    const fs::path file = temporary_file("history.jsonl");
    std::ofstream(file) << R"({"step":1,"loss":2.0})"
                           "\n"
                           R"({"step":2,"loss":null,"validation":{"train":{"auc":0.5}}})"
                           "\n"
                           R"({"step":3,"lo)";
    History history;
    history.read({"/nowhere/before.json", file});
    fs::remove(file);
    history.add({{"step", 3}, {"loss", 1.0}});
    const auto loss = history.series("loss");
    EXPECT_EQ(loss.steps, (std::vector<double>{1, 2, 3}));
    EXPECT_EQ(loss.values[0], 2.0);
    EXPECT_TRUE(std::isnan(loss.values[1]));
    EXPECT_EQ(loss.values[2], 1.0);
    EXPECT_EQ(history.series("validation/train/auc").steps, (std::vector<double>{2}));
    EXPECT_TRUE(history.series("validation/heldout/auc").steps.empty());
    history.read({"/nowhere/metrics.jsonl"});
    EXPECT_TRUE(history.empty());
}

TEST(Curves, ATermThatIsOffHasNoPlot) {
    History history;
    for (int step = 1; step <= 5000; ++step) {
        history.add({{"step", step}, {"loss_denoise", 1.0}, {"loss_sga", 2.0}, {"loss_spa", 0.0}});
    }
    const Floors floors{1.2, 3.0, std::nan("")};
    const auto plots = loss_plots(history, floors, 2);
    ASSERT_EQ(plots.size(), 2u);
    EXPECT_EQ(plots[1].references.at(0).y, 3.0);
    EXPECT_LE(plots[1].series.at(0).x.size(), 2000u);
    EXPECT_DOUBLE_EQ(plots[1].series.at(0).y.back(), 2.0);
    EXPECT_TRUE(word_plots(history).empty());
    EXPECT_TRUE(track_plots(history).empty());
    EXPECT_EQ(draw_curves(history, floors, 2, "title").size(1), 1200);
}

TEST(Curves, AlignmentLossesAreThoseOfTheSamplesThatTookPart) {
    History history;
    const auto add = [&](int step, double sga, int images, int captions) {
        history.add({{"step", step},
                     {"loss_denoise", 1.0},
                     {"loss_sga", sga},
                     {"loss_spa", sga},
                     {"images_dropped", images},
                     {"captions_dropped", captions}});
    };
    history.add({{"step", 0}, {"validation", {{"train", {{"auc_v2t", 0.5}}}}}});
    add(1, 3.0, 0, 0);
    add(2, 1.5, 1, 0);
    add(3, 0.0, 1, 1);
    const auto plots = loss_plots(history, {1.0, 1.0, 1.0}, 2);
    ASSERT_EQ(plots.size(), 3u);
    EXPECT_EQ(plots[0].series[0].y, (std::vector<double>{1, 1, 1}));
    EXPECT_EQ(plots[1].series[0].x, (std::vector<double>{1, 2}));
    EXPECT_EQ(plots[1].series[0].y, (std::vector<double>{3, 3}));
    EXPECT_EQ(plots[2].series[0].y, (std::vector<double>{3, 3, 0}));
}

TEST(SwappedRoles, PhrasesChangePlacesAndKeepTheirInstances) {
    const data_cache::DataConfig data;
    const auto row = row_of("The <id1> blue cube lifts the <id2> cone.", {"blue cube", {}, 1},
                            {"lifts", {}, 0}, {"cone", {}, 2});
    const auto swapped = swap_roles(row, data);
    ASSERT_TRUE(swapped);
    EXPECT_EQ(swapped->prompt, "The cone lifts the blue cube.");
    EXPECT_EQ(swapped->interactions[0].subject.text, "blue cube");
    EXPECT_EQ(swapped->interactions[0].subject.id, 1);
    EXPECT_EQ(swapped->interactions[0].subject.start, 19);
    EXPECT_EQ(swapped->interactions[0].object->start, 4);
    EXPECT_EQ(swapped->interactions[0].verb.start, 9);
    const auto back = swap_roles(*swapped, data);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->prompt, "The blue cube lifts the cone.");
}

TEST(SwappedRoles, CountsCharactersAndNotBytes) {
    const auto row = row_of("Ein grüner Käfer hebt Äpfel; Äpfel sind süß.", {"grüner Käfer", {}, 1},
                            {"hebt", {}, 0}, {"Äpfel", 22, 2});
    const auto swapped = swap_roles(row, {});
    ASSERT_TRUE(swapped);
    EXPECT_EQ(swapped->prompt, "Ein Äpfel hebt grüner Käfer; Äpfel sind süß.");
    EXPECT_EQ(swapped->interactions[0].subject.start, 15);
}

TEST(SwappedRoles, EqualOrOverlappingPhrasesAreNotSwapped) {
    EXPECT_FALSE(swap_roles(
        row_of("A man lifts a man.", {"man", 2, 1}, {"lifts", {}, 0}, {"man", 14, 2}), {}));
    EXPECT_FALSE(swap_roles(
        row_of("A tall man lifts.", {"tall man", {}, 1}, {"lifts", {}, 0}, {"man", {}, 2}), {}));
}

TEST(AttentionMaps, AFileKeepsThem) {
    const fs::path file = temporary_file("maps.safetensors");
    MapsByClip maps;
    maps["train/a"] = {at::rand({3, 5, 2, 2}), at::rand({2, 5, 2, 2})};
    maps["heldout/b"] = {at::rand({3, 5, 2, 2}), {}};
    save_maps(file, maps);
    const MapsByClip back = load_maps(file);
    fs::remove(file);
    ASSERT_EQ(back.size(), 2u);
    EXPECT_TRUE(back.at("train/a").words.equal(maps["train/a"].words));
    EXPECT_TRUE(back.at("train/a").tracks.equal(maps["train/a"].tracks));
    EXPECT_FALSE(back.at("heldout/b").tracks.defined());
}

TEST(AttentionMaps, ScoresAndScaleLeaveTheQueriesFrameOut) {
    at::Tensor track = at::zeros({5, 32, 32}, at::kByte);  // F = 2, 2 x 2 cells
    track.narrow(1, 0, 16).narrow(2, 0, 16).fill_(1);
    at::Tensor other = at::zeros_like(track);
    other.narrow(1, 16, 16).fill_(1);
    at::Tensor map = at::zeros({2, 2, 2});
    map[0].fill_(1e6);  // what stands in frame 0 must not matter
    map[0][0][0] = -1e6;
    map[1][0][0] = 2.0;
    map[1][0][1] = 3.0;
    EXPECT_DOUBLE_EQ(map_auc(map, track, 1), 2.0 / 3.0);
    EXPECT_DOUBLE_EQ(map_bind(map, track, other, 1), 1.0);
    const at::Tensor counted = standardised(map, 1)[1];
    EXPECT_NEAR(counted.mean().item<double>(), 0.0, 1e-6);
    EXPECT_NEAR(counted.std().item<double>(), 1.0, 1e-6);
}

TEST(Sheet, PicturesKeepTheirPixels) {
    const at::Tensor red = at::full({4, 6, 3}, 7, at::kByte),
                     green = at::full({2, 3, 3}, 9, at::kByte);
    const at::Tensor side = beside({red, green});
    EXPECT_EQ(side.sizes(), (std::vector<std::int64_t>{4, 9, 3}));
    EXPECT_TRUE(side.narrow(1, 0, 6).equal(red));
    EXPECT_EQ(side[3][8][0].item<int>(), 255);
    const at::Tensor stack = below({red, green});
    EXPECT_EQ(stack.sizes(), (std::vector<std::int64_t>{6, 6, 3}));
    EXPECT_TRUE(stack.narrow(0, 4, 2).narrow(1, 0, 3).equal(green));
    EXPECT_TRUE(below({red, beside({})}).equal(red));  // a row without any picture
    EXPECT_EQ(frames_at_width(at::zeros({1, 96, 160, 3}, at::kByte), 320).sizes(),
              (std::vector<std::int64_t>{1, 192, 320, 3}));
    EXPECT_EQ(masks_at_width(at::ones({1, 480, 720}, at::kByte), 320).sizes(),
              (std::vector<std::int64_t>{1, 213, 320}));
}

}  // namespace
}  // namespace matrix::cli::pictures
