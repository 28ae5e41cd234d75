#include "matrix/train/batch_stream.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <thread>

#include "support/errors.h"
#include "support/tensors.h"
#include "train/clips.h"

namespace matrix {
namespace {

using train::Batch;
using train::BatchStream;

std::vector<Batch> read(std::int64_t batch_size, std::int64_t first, int workers,
                        std::int64_t ahead, int count) {
    const test::Clips clips(5);
    BatchStream stream(clips, test::id_map_rules(), {.batch_size = batch_size}, first, {}, workers,
                       ahead);
    std::vector<Batch> batches;
    for (int i = 0; i < count; ++i) {
        batches.push_back(stream.next());
    }
    return batches;
}

TEST(BatchStream, ContentIsIndependentOfWorkersAndReadAhead) {
    const std::vector<Batch> expected = read(2, 0, 1, 1, 8);
    for (const auto& [workers, ahead] : {std::pair{3, 4}, {2, 1}, {4, 16}}) {
        const std::vector<Batch> actual = read(2, 0, workers, ahead, 8);
        for (std::size_t i = 0; i < expected.size(); ++i) {
            EXPECT_EQ(actual[i].names, expected[i].names) << i;
            EXPECT_EQ(actual[i].sample_numbers, expected[i].sample_numbers) << i;
            test::expect_equal(actual[i].latents, expected[i].latents, "latents");
            test::expect_equal(actual[i].image_latents, expected[i].image_latents, "image_latents");
            test::expect_equal(actual[i].noise, expected[i].noise, "noise");
        }
    }
}

TEST(BatchStream, BeginsAnywhereAndSplitsAnyHow) {
    const std::vector<Batch> whole = read(2, 0, 2, 4, 8), late = read(2, 6, 2, 4, 2),
                             single = read(1, 5, 2, 4, 4);
    for (std::size_t i = 0; i < late.size(); ++i) {
        EXPECT_EQ(late[i].names, whole[i + 3].names);
        test::expect_equal(late[i].noise, whole[i + 3].noise, "noise");
    }
    for (std::int64_t i = 0; i < 4; ++i) {
        const std::int64_t number = 5 + i;
        const Batch& batch = whole[static_cast<std::size_t>(number / 2)];
        EXPECT_EQ(single[static_cast<std::size_t>(i)].names[0],
                  batch.names[static_cast<std::size_t>(number % 2)]);
        test::expect_equal(single[static_cast<std::size_t>(i)].latents[0],
                           batch.latents[number % 2], "latents");
    }
}

TEST(BatchStream, ThrowsAnErrorInItsPlace) {
    test::Clips clips(5);
    train::SampleOrder order(5, test::id_map_rules().seed);
    clips.broken_row = order.row(3);
    BatchStream stream(clips, test::id_map_rules(), {}, 0, {}, 3, 4);
    for (std::int64_t i = 0; i < 3; ++i) {
        EXPECT_EQ(stream.next().names[0], "clip " + std::to_string(order.row(i)));
    }
    test::expect_error([&] { (void)stream.next(); },
                       {"clip " + std::to_string(clips.broken_row) + ": broken"});
    EXPECT_EQ(stream.next().names[0], "clip " + std::to_string(order.row(4)));
}

TEST(BatchStream, ReadsNoFurtherAheadThanTold) {
    test::Clips clips(5);
    {
        BatchStream stream(clips, test::id_map_rules(), {}, 0, {}, 2, 3);
        (void)stream.next();
    }
    EXPECT_LE(clips.reads, 4);  // one taken, at most three waiting
}

TEST(BatchStream, LeavesTheThreadsOfTheStepAlone) {
    const int before = at::get_num_threads();
    at::set_num_threads(3);
    int threads = 0;
    // A thread that has not computed yet, as the main one before its first step.
    std::thread([&] {
        const test::Clips clips(5);
        BatchStream stream(clips, test::id_map_rules(), {}, 0);
        (void)stream.next();
        threads = at::get_num_threads();
    }).join();
    at::set_num_threads(before);
    EXPECT_EQ(threads, 3);
}

/// The samples of `count` micro-batches of a share.
std::vector<std::int64_t> numbers(train::SampleShare share, std::int64_t first, int count,
                                  std::vector<train::SampleRange> skipped = {}) {
    const test::Clips clips(5);
    BatchStream stream(clips, test::id_map_rules(), share, first, std::move(skipped));
    std::vector<std::int64_t> all;
    for (int i = 0; i < count; ++i) {
        const std::vector<std::int64_t> batch = stream.next().sample_numbers;
        EXPECT_EQ(batch.size(), static_cast<std::size_t>(share.batch_size));
        all.insert(all.end(), batch.begin(), batch.end());
    }
    return all;
}

TEST(BatchStream, SharesMakeUpTheGlobalBatchInOrder) {
    using Numbers = std::vector<std::int64_t>;
    // Micro-batches of two samples, two a step, three replicas: steps of 12 samples, from sample 7.
    EXPECT_EQ(numbers({2, 2, 0, 3}, 7, 4), (Numbers{7, 8, 13, 14, 19, 20, 25, 26}));
    EXPECT_EQ(numbers({2, 2, 1, 3}, 7, 4), (Numbers{9, 10, 15, 16, 21, 22, 27, 28}));
    EXPECT_EQ(numbers({2, 2, 2, 3}, 7, 4), (Numbers{11, 12, 17, 18, 23, 24, 29, 30}));
    EXPECT_EQ((train::SampleShare{2, 2, 1, 3}.global_batch()), 12);
}

TEST(BatchStream, ASampleIsTheSameInEveryShare) {
    const std::vector<Batch> whole = read(4, 0, 2, 4, 2);
    const test::Clips clips(5);
    for (std::int64_t replica = 0; replica < 2; ++replica) {
        BatchStream stream(clips, test::id_map_rules(), {1, 2, replica, 2}, 0);
        for (std::int64_t i = 0; i < 4; ++i) {
            const Batch batch = stream.next();
            const std::int64_t number = 2 * i + replica;
            const Batch& expected = whole[static_cast<std::size_t>(number / 4)];
            EXPECT_EQ(batch.sample_numbers, std::vector{number});
            EXPECT_EQ(batch.names[0], expected.names[static_cast<std::size_t>(number % 4)]);
            test::expect_equal(batch.latents[0], expected.latents[number % 4], "latents");
            test::expect_equal(batch.noise[0], expected.noise[number % 4], "noise");
            test::expect_equal(batch.timestep[0], expected.timestep[number % 4], "timestep");
        }
    }
}

TEST(BatchStream, AStepBeginsBehindWhatItMayNotHold) {
    using train::step_begin;
    EXPECT_EQ(step_begin(8, 4, {}), 8);
    EXPECT_EQ(step_begin(8, 4, {{8, 12}}), 12) << "the step itself";
    EXPECT_EQ(step_begin(8, 4, {{4, 8}}), 8) << "the step before";
    EXPECT_EQ(step_begin(8, 4, {{12, 16}}), 8) << "the step behind";
    EXPECT_EQ(step_begin(8, 4, {{11, 15}}), 15) << "its last sample";
    EXPECT_EQ(step_begin(8, 4, {{6, 9}}), 9) << "its first sample";
    EXPECT_EQ(step_begin(8, 4, {{9, 10}}), 10) << "one inside";
    EXPECT_EQ(step_begin(8, 4, {{4, 20}}), 20) << "more than it";
    EXPECT_EQ(step_begin(8, 4, {{12, 16}, {8, 12}}), 16) << "adjacent, in any order";
    EXPECT_EQ(step_begin(8, 4, {{14, 18}, {8, 12}}), 18) << "too little room in between";
    EXPECT_EQ(step_begin(8, 4, {{16, 20}, {8, 12}}), 12) << "room for a step in between";
    EXPECT_EQ(step_begin(0, 4, {{0, 4}}), 4) << "at the very start";
}

TEST(BatchStream, PassesOverSkippedSamples) {
    using Numbers = std::vector<std::int64_t>;
    EXPECT_EQ(numbers({2, 1, 0, 1}, 0, 4, {{0, 2}, {4, 6}}), (Numbers{2, 3, 6, 7, 8, 9, 10, 11}));
    EXPECT_EQ(numbers({2, 1, 0, 1}, 0, 3, {{3, 4}}), (Numbers{0, 1, 4, 5, 6, 7}));
    // All replicas and micro-batches of a step pass over it.
    const std::vector<train::SampleRange> skipped = {{6, 9}, {13, 14}};
    EXPECT_EQ(numbers({1, 2, 0, 2}, 0, 6, skipped), (Numbers{0, 2, 9, 11, 14, 16}));
    EXPECT_EQ(numbers({1, 2, 1, 2}, 0, 6, skipped), (Numbers{1, 3, 10, 12, 15, 17}));
}

}  // namespace
}  // namespace matrix
