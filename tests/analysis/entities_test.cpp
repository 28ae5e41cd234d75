#include "matrix/analysis/entities.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

namespace matrix::analysis {
namespace {

data_source::Phrase phrase(const char* text, std::int64_t id = 0) {
    return {text, std::nullopt, id};
}

at::Tensor tokens(std::initializer_list<std::int64_t> set) {
    at::Tensor mask = at::zeros({8}, at::kByte);
    for (const std::int64_t i : set) {
        mask[i] = 1;
    }
    return mask;
}

at::Tensor track(std::int64_t frame, std::int64_t y, std::int64_t x) {
    at::Tensor pixels = at::zeros({5, 32, 32}, at::kByte);
    pixels[frame][y][x] = 1;
    return pixels;
}

/// 1 pushes 2, then 2 chases 1: three tracks' worth of masks, the second interaction the other way.
struct Example {
    std::vector<data_source::Interaction> interactions = {
        {phrase("a man", 1), phrase("pushes"), phrase("a cart", 2)},
        {phrase("the cart", 2), phrase("chases"), phrase("a man", 1)}};
    at::Tensor token_mask = at::stack({at::stack({tokens({0, 1}), tokens({3}), tokens({2})}),
                                       at::stack({tokens({5}), tokens({0, 1}), tokens({6})})});
    at::Tensor man = track(0, 0, 0), cart = track(2, 16, 0);
    at::Tensor masks = at::stack({at::stack({man, cart}), at::stack({cart, man})});
};

TEST(EntitiesOf, InstancesAreOneEntityForEachWording) {
    const Example clip;
    const std::vector<Entity> entities =
        entities_of(clip.interactions, clip.token_mask, clip.masks);
    std::vector<std::string> names;
    for (const Entity& entity : entities) {
        names.push_back(entity.name + " " + entity.word);
    }
    EXPECT_EQ(names, (std::vector<std::string>{"id1 a man", "id2 a cart", "id2b the cart",
                                               "verb1 pushes", "verb2 chases"}));
    test::expect_equal(entities[2].tokens, tokens({5}).ne(0), "tokens of the other wording");
    EXPECT_TRUE(entities[3].verb);
    EXPECT_FALSE(entities[0].verb);
}

TEST(EntitiesOf, CellsAreTheTopLeftPixelsAndVerbsAreWhereEitherIs) {
    const Example clip;
    const std::vector<Entity> entities =
        entities_of(clip.interactions, clip.token_mask, clip.masks);
    at::Tensor man = at::zeros({2, 2, 2}, at::kBool), cart = at::zeros({2, 2, 2}, at::kBool);
    man[0][0][0] = true;
    cart[1][1][0] = true;  // pixel frame 2 is in latent frame 1
    test::expect_equal(entities[0].cells, man, "man");
    test::expect_equal(entities[1].cells, cart, "cart");
    test::expect_equal(entities[3].cells, man.logical_or(cart), "pushes");
    EXPECT_TRUE(entities[0].has_first_cells());
    EXPECT_FALSE(entities[1].has_first_cells());
}

TEST(EntitiesOf, AVerbWithoutObjectIsItsSubject) {
    const std::vector<data_source::Interaction> runs = {{phrase("a man", 1), phrase("runs"), {}}};
    const Example clip;
    const at::Tensor masks = at::stack({clip.man, at::zeros_like(clip.man)}).unsqueeze(0);
    const std::vector<Entity> entities = entities_of(runs, clip.token_mask.narrow(0, 0, 1), masks);
    ASSERT_EQ(entities.size(), 2U);
    test::expect_equal(entities[1].cells, entities[0].cells, "runs");
}

}  // namespace
}  // namespace matrix::analysis
