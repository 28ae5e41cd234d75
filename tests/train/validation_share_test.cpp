#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <mutex>
#include <nlohmann/json.hpp>

#include "distributed/thread_group.h"
#include "matrix/train/sharded_blocks.h"
#include "matrix/train/validation.h"
#include "support/tensors.h"
#include "train/clips.h"
#include "train/counted_group.h"
#include "train/trajectory.h"

namespace matrix {
namespace {

using distributed::Communicator;

alignment::AlignmentConfig scored_blocks() {
    alignment::AlignmentConfig config;
    config.sga->blocks = {1, 2};
    config.spa->blocks = {2};
    return config;
}

nlohmann::json validate(test::Trajectory& trajectory, models::Backbone& model,
                        const test::Clips& clips, const train::Ranks& ranks) {
    train::BatchRules rules = test::id_map_rules();
    const train::RunParts parts{
        model, trajectory.schedule, *trajectory.objective, clips, rules, {}, {}, ranks};
    return train::validate(parts, scored_blocks(), clips);
}

/// On one rank; all of its numbers are defined.
nlohmann::json alone(const test::Clips& clips) {
    test::Trajectory trajectory;
    const nlohmann::json result =
        validate(trajectory, *trajectory.model, clips, train::Ranks::single());
    for (const char* name : {"loss_denoise", "auc_v2t", "bind_v2t", "aas_v2t", "auc_v2v"}) {
        EXPECT_TRUE(result.at(name).is_number()) << name;
    }
    return result;
}

// More ranks than clips too, and clips that do not divide.
TEST(ValidationShare, GivesEveryRankTheBitsOfOne) {
    const test::Clips clips(3);
    const nlohmann::json expected = alone(clips);
    for (const int world : {2, 3, 4}) {
        test::run_in_threads(world, [&](Communicator& all) {
            test::Trajectory trajectory;
            const test::Clips own(3);
            EXPECT_EQ(validate(trajectory, *trajectory.model, own, {all}), expected) << world;
            // Each clip once in the run; ranks without one have the last again.
            EXPECT_LE(own.reads, 3 * ((3 + world - 1) / world)) << world;
        });
    }
}

// Two ranks hold a clip together; attention is summed in another order.
TEST(ValidationShare, IsThatOfReplicas) {
    const test::Clips clips(3);
    const nlohmann::json expected = alone(clips);
    test::run_in_threads(4, [&](Communicator& all) {
        test::Trajectory trajectory;
        const test::CountedGroup group(all, 2);
        const nlohmann::json actual =
            validate(trajectory, *trajectory.model, clips, {all, &group, 2});
        EXPECT_GT(group.num_exchanges, 0) << "every rank ran the whole clip";
        for (const char* name : {"loss_denoise", "enrich_v2t", "aas_v2t", "aas_v2v"}) {
            EXPECT_NEAR(actual.at(name), expected.at(name), 1e-5) << name;
        }
    });
}

/// The model before anything trains, its base wherever it is held.
models::CogVideoXTransformer untrained(std::unique_ptr<models::BlockWeights> blocks) {
    const auto directory = test::Trajectory::directory();
    tensor_io::FileWeights weights(directory, "transformer", at::kFloat, at::kCPU);
    return {models::CogVideoXConfig::from_file(directory / "config.json"), weights,
            std::move(blocks)};
}

// Ranks that hold shares of the base need one another in every forward.
TEST(ValidationShare, RunsAsManyForwardsOnEveryRank) {
    const test::Clips clips(3);
    test::Trajectory trajectory;
    models::CogVideoXTransformer model = untrained(models::resident_blocks());
    model.widen_input(48);
    const nlohmann::json expected = validate(trajectory, model, clips, train::Ranks::single());
    test::run_in_threads(2, [&](Communicator& all) {
        test::Trajectory own;
        models::CogVideoXTransformer shared =
            untrained(std::make_unique<train::ShardedBlocks>(all.subgroup({0, 1}, "base")));
        shared.widen_input(48);
        EXPECT_EQ(validate(own, shared, clips, {all, nullptr, 1, true}), expected);
    });
}

}  // namespace
}  // namespace matrix
