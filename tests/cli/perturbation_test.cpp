#include "cli/generate/perturbation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "matrix/core/error.h"
#include "matrix/media/image.h"
#include "matrix/text/phrases.h"
#include "matrix/text/t5_tokenizer.h"
#include "support/errors.h"
#include "support/temp_directory.h"

// What the flags of training-free guidance come to. N video tokens, L text tokens.

namespace matrix::cli::generate {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrompt = "The tall man hands a red cup to the woman.";
constexpr const char* kInteractions =
    R"([{"subject": {"phrase": "tall man", "id": 1}, "verb": {"phrase": "hands"},
         "object": {"phrase": "woman", "id": 2}}])";

VideoSettings settings() {
    VideoSettings s;
    s.prompt = kPrompt;
    s.guidance = {"cmg"};
    s.cmg_blocks = {1};
    s.interactions = kInteractions;
    s.frames = 9;
    s.height = 32;
    s.width = 48;
    return s;
}

pipeline::SizeRules rules(std::int64_t num_layers = 6) {
    pipeline::SizeRules rules;
    rules.transformer.num_layers = num_layers;
    return rules;
}

std::vector<std::string> faults_of(VideoSettings s, std::int64_t num_layers = 6) {
    std::vector<std::string> faults;
    resolve_perturbation(s, rules(num_layers), faults);
    return faults;
}

/// A model's tokenizer, and tracks of two IDs: nine masks of 64 x 96 pixels for tokens of 32 x 32.
class Tracks : public ::testing::Test {
protected:
    void SetUp() override {
        fs::create_directory_symlink(fs::path(MATRIX_SOURCE_DIR) / "assets/t5-tokenizer",
                                     directory_ / "tokenizer");
        for (std::int64_t frame = 0; frame < 9; ++frame) {
            masks_[0].push_back(at::zeros({64, 96}, at::kByte));
            masks_[1].push_back(at::zeros({64, 96}, at::kByte));
        }
    }
    /// Marks the pixel that stands for a token.
    void mark(std::int64_t id, std::int64_t frame, std::int64_t row, std::int64_t column) {
        // A mask of twice the size is read at 2 p + 1 for the pixel p.
        masks_[id - 1][static_cast<std::size_t>(frame)][row * 32 + 1][column * 32 + 1] = 255;
    }
    [[nodiscard]] VideoSettings with_tracks() const {
        for (const std::int64_t id : {1, 2}) {
            const fs::path folder = directory_ / "masks" / ("<id" + std::to_string(id) + ">");
            fs::create_directories(folder);
            for (std::size_t i = 0; i < masks_[id - 1].size(); ++i) {
                media::write_png(folder / (std::to_string(100 + i) + ".png"), masks_[id - 1][i]);
            }
        }
        VideoSettings s = settings();
        s.mask_tracks = (directory_ / "masks").string();
        return s;
    }
    [[nodiscard]] at::Tensor grounding(const VideoSettings& s,
                                       const pipeline::SizeRules& of = rules()) const {
        return load_perturbation(s, of, directory_.path()).grounding;
    }
    /// [L] bool: the phrase's tokens.
    [[nodiscard]] at::Tensor tokens(const std::string& phrase) const {
        const text::T5Tokenizer tokenizer(directory_ / "tokenizer");
        return text::token_mask(tokenizer.encode(kPrompt), kPrompt,
                                text::find_phrase(kPrompt, phrase))
            .mask.to(at::kBool);
    }

    test::TempDirectory directory_;
    std::vector<at::Tensor> masks_[2];
};

TEST_F(Tracks, WithoutThemEveryQueryLosesTheWords) {
    const at::Tensor entries = grounding(settings());
    ASSERT_EQ(entries.sizes(), (std::vector<std::int64_t>{1, text::kMaxTokens}));
    EXPECT_TRUE(at::equal(
        entries[0], tokens("tall man").logical_or(tokens("hands")).logical_or(tokens("woman"))));
}

TEST_F(Tracks, SayWhereTheWordsAreTakenAway) {
    mark(1, 0, 0, 0);  // latent frame 0 is frame 0 alone
    mark(1, 4, 1, 2);  // 1 to 4 are latent frame 1, 5 to 8 latent frame 2
    mark(2, 1, 1, 2);
    mark(2, 5, 0, 1);
    const at::Tensor entries =
        grounding(with_tracks()).view({3, 2, 3, text::kMaxTokens});  // [F, gh, gw, L]
    const at::Tensor man = tokens("tall man"), verb = tokens("hands"), woman = tokens("woman");
    at::Tensor expected = at::zeros_like(entries);
    expected[0][0][0] = man.logical_or(verb);
    expected[1][1][2] = man.logical_or(verb).logical_or(woman);
    expected[2][0][1] = woman.logical_or(verb);
    EXPECT_TRUE(at::equal(entries, expected));
}

TEST_F(Tracks, PaddingBeforeTemporalPatchesIsTheFirstFrame) {
    mark(1, 0, 0, 0);
    mark(2, 8, 1, 1);
    pipeline::SizeRules patches = rules();
    patches.transformer.patch_size_t = 2;  // 3 latent frames and one before them, in pairs
    const at::Tensor cells =
        grounding(with_tracks(), patches).any(1).view({2, 2, 3});  // [F, gh, gw]
    at::Tensor expected = at::zeros({2, 2, 3}, at::kBool);
    expected[0][0][0] = true;
    expected[1][1][1] = true;
    EXPECT_TRUE(at::equal(cells, expected));
}

TEST_F(Tracks, WithoutAnObjectTheVerbIsTheSubjects) {
    mark(1, 0, 0, 0);
    mark(2, 0, 1, 1);
    VideoSettings s = with_tracks();
    s.interactions =
        R"([{"subject": {"phrase": "tall man", "id": 1}, "verb": {"phrase": "hands"}}])";
    EXPECT_EQ(grounding(s).any(1).nonzero().numel(), 1);
}

TEST_F(Tracks, ThatDoNotFitAreRefused) {
    const auto refuses = [&](const VideoSettings& s,
                             std::initializer_list<std::string_view> parts) {
        test::expect_error([&] { (void)grounding(s); }, parts);
    };
    const VideoSettings empty = with_tracks();
    refuses(empty, {"masks", "no mask", "would change nothing"});
    media::write_png(directory_ / "masks/<id1>/100.png", at::full({64, 96}, 255, at::kByte));
    VideoSettings s = empty;
    EXPECT_TRUE(grounding(s).defined());
    s.frames = 17;
    refuses(s, {"<id1>", "holds 9 masks", "17 are needed"});
    s = empty;
    s.mask_tracks = (directory_ / "nowhere").string();
    refuses(s, {"nowhere", "<id1>", "\"tall man\""});
    s = empty;
    s.height = 48;
    refuses(s, {"100.png", "96 x 64", "48 x 48"});
    const fs::path image = directory_ / "first.png";
    media::write_png(image, at::zeros({64, 96, 3}, at::kByte));  // of the masks' shape
    s.image = image.string();
    EXPECT_TRUE(grounding(s).defined());
    s = settings();
    for (int i = 0; i < 250; ++i) {
        s.prompt.insert(0, "very ");
    }
    refuses(s, {"interactions[0].subject", "\"tall man\"", "226 tokens"});
}

TEST(PerturbationSettings, BlocksArePublishedForOneDepthAlone) {
    VideoSettings s = settings();
    s.guidance = {"cag", "cmg"};
    s.cmg_blocks.clear();
    std::vector<std::string> faults;
    resolve_perturbation(s, rules(42), faults);
    EXPECT_TRUE(faults.empty()) << faults.front();
    EXPECT_EQ(s.cmg_blocks, (std::vector<std::int64_t>{7, 11}));
    EXPECT_EQ(s.cag_blocks, (std::vector<std::int64_t>{12}));
    s.cmg_blocks = {3};
    EXPECT_TRUE(faults_of(s, 42).empty());
    s.cmg_blocks = s.cag_blocks = {};
    EXPECT_EQ(
        faults_of(s),
        (std::vector<std::string>{
            "cmg_blocks: is missing; the published choice (7, 11) is for models of 42 blocks, "
            "and this one has 6",
            "cag_blocks: is missing; the published choice (12) is for models of 42 blocks, "
            "and this one has 6"}));
    s.cmg_blocks = {0, 6};
    s.cag_blocks = {5};
    EXPECT_EQ(faults_of(s),
              (std::vector<std::string>{"cmg_blocks: the model has no block 6, only 0 to 5"}));
}

TEST(PerturbationSettings, OfAGuidanceThatIsOffAreRefused) {
    VideoSettings s = settings();
    s.guidance.clear();
    s.cag_blocks = {2};
    s.perturbation_scale = 2;
    s.mask_tracks = "masks";
    const std::vector<std::string> faults = faults_of(s);
    ASSERT_EQ(faults.size(), 5u);
    for (const char* name :
         {"cmg_blocks", "cag_blocks", "perturbation_scale", "mask_tracks", "interactions"}) {
        EXPECT_TRUE(std::ranges::any_of(faults, [&](const std::string& fault) {
            return fault.starts_with(name);
        })) << name;
    }
}

TEST(PerturbationSettings, WordsAreThoseOfThePrompt) {
    const auto expect_fault = [](const std::optional<std::string>& interactions,
                                 std::initializer_list<std::string_view> parts) {
        VideoSettings s = settings();
        s.prompt = "A man hands a cup to a man.";
        s.interactions = interactions;
        const std::vector<std::string> faults = faults_of(s);
        ASSERT_EQ(faults.size(), 1u) << interactions.value_or("none");
        for (const std::string_view part : parts) {
            EXPECT_NE(faults.front().find(part), std::string::npos)
                << part << ": " << faults.front();
        }
    };
    expect_fault(std::nullopt, {"interactions: is missing", "subject, verb and object"});
    expect_fault("[]", {"interactions: is an empty list"});
    expect_fault("[", {"interactions"});
    expect_fault("{}", {"interactions: must be a list"});
    const std::string verb = R"("verb": {"phrase": "hands"}}])";
    expect_fault(R"([{"subject": {"phrase": "dog", "id": 1}, )" + verb,
                 {"interactions[0].subject: phrase \"dog\" does not occur"});
    expect_fault(R"([{"subject": {"phrase": "man", "id": 1}, )" + verb,
                 {"interactions[0].subject: phrase \"man\" occurs 2 times", "\"start\": 2, 23"});
    expect_fault(R"([{"subject": {"phrase": "cup"}, )" + verb, {"interactions[0].subject.id"});
}

TEST(PerturbationSettings, InteractionsAreKeptAsOneText) {
    VideoSettings spaced = settings(), tight = settings();
    tight.interactions =
        R"([{"object":{"id":2,"phrase":"woman"},"subject":{"id":1,"phrase":"tall man"},"verb":{"phrase":"hands"}}])";
    std::vector<std::string> faults;
    resolve_perturbation(spaced, rules(), faults);
    resolve_perturbation(tight, rules(), faults);
    EXPECT_TRUE(faults.empty()) << faults.front();
    EXPECT_EQ(spaced.interactions, tight.interactions);
}

}  // namespace
}  // namespace matrix::cli::generate
