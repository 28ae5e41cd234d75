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

}  // namespace
}  // namespace matrix
