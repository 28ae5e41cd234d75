#include "matrix/train/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>
#include <future>
#include <thread>

#include "matrix/core/files.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"
#include "train/numbered_checkpoint.h"

namespace matrix {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using train::CheckpointWriter;
using train::Snapshot;

std::vector<std::string> names(const fs::path& directory) {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(directory)) {
        all.push_back(entry.path().filename().string());
    }
    std::sort(all.begin(), all.end());
    return all;
}

TEST(CheckpointWriter, CopiesBeforeItReturns) {
    const at::Tensor weight = at::full({3}, 1.0).set_requires_grad(true);
    const at::Tensor moment = at::full({3}, 2.0);
    const Snapshot snapshot = Snapshot::take({{"heads.a", weight}}, {}, {{"m", moment}}, {5, 15});
    weight.detach().fill_(9);
    moment.fill_(9);
    test::expect_equal(snapshot.trained.at("heads.a"), at::full({3}, 1.0), "weight");
    test::expect_equal(snapshot.optimizer.at("m"), at::full({3}, 2.0), "moment");
    EXPECT_FALSE(snapshot.trained.at("heads.a").requires_grad());
    EXPECT_EQ(snapshot.state.step, 5);
}

TEST(CheckpointWriter, WritesWhileTheCallerGoesOn) {
    const test::TempDirectory run;
    CheckpointWriter writer(run.path(), 3, std::nullopt);
    Snapshot snapshot = test::numbered_snapshot(4);
    snapshot.state.score.reset();
    std::promise<void> go_on;
    std::thread::id thread;
    writer.write(std::move(snapshot), [&] {
        thread = std::this_thread::get_id();
        go_on.get_future().wait();
        EXPECT_FALSE(train::has_checkpoints(run.path())) << "named before it is complete";
    });
    EXPECT_FALSE(train::has_checkpoints(run.path()));
    go_on.set_value();
    writer.wait();
    EXPECT_NE(thread, std::this_thread::get_id());
    EXPECT_EQ(test::expect_whole(train::checkpoint_directory(run.path(), 4)), 4);
    EXPECT_FALSE(writer.failed());
    writer.wait();
}

TEST(CheckpointWriter, KeepsTheLastAndTheBest) {
    const test::TempDirectory run;
    {
        CheckpointWriter writer(run.path(), 2, train::BestRule::of("auc_v2t"));
        for (std::int64_t step = 5; step <= 9; ++step) {  // scores 5, 6, 0, 1, 2
            writer.write(test::numbered_snapshot(step), {});
        }
    }
    EXPECT_THAT(names(run / "checkpoints"),
                ElementsAre("step-00000006", "step-00000008", "step-00000009"));
    const train::TrainState best =
        train::checkpoint_state(train::checkpoint_directory(run.path(), 6));
    EXPECT_EQ(best.score, 6.0);
    EXPECT_EQ(best.score_metric, "auc_v2t");
}

/// No file of this process may grow beyond `bytes`: what a full disk does to a write.
class FileSizeLimit {
public:
    explicit FileSizeLimit(rlim_t bytes) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit limit{bytes, before_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;

private:
    rlimit before_{};
};

/// Hands over step 2, whose write must fail with `part` in its message, and expects step 1 as it
/// was and step 3 to be written.
void expect_failure(CheckpointWriter& writer, const fs::path& run, const std::string& part,
                    const std::function<void()>& before = {}) {
    writer.write(test::numbered_snapshot(2), before);
    while (!writer.failed()) {  // the time limit of the test is the limit
        std::this_thread::yield();
    }
    EXPECT_TRUE(writer.failed()) << "forgotten before anybody was told";
    test::expect_error([&] { writer.write(test::numbered_snapshot(3), {}); }, {part});
    EXPECT_FALSE(writer.failed());
    writer.wait();
    EXPECT_THAT(names(run / "checkpoints"), ElementsAre("step-00000001"));
    EXPECT_EQ(test::expect_whole(*train::last_checkpoint(run)), 1);
}

TEST(CheckpointWriter, AFailedWriteLeavesTheLastOneAlone) {
    const test::TempDirectory run;
    CheckpointWriter writer(run.path(), 1, train::BestRule::of("auc_v2t"));
    writer.write(test::numbered_snapshot(1), {});
    writer.wait();
    for (const rlim_t bytes : {0, 100'000}) {
        const FileSizeLimit limit(bytes);
        expect_failure(writer, run.path(), "File too large");
    }
    expect_failure(writer, run.path(), "metrics.jsonl: cannot sync",
                   [] { throw RunError("metrics.jsonl: cannot sync: Input/output error"); });
    writer.write(test::numbered_snapshot(3), {});
    writer.wait();
    EXPECT_THAT(names(run / "checkpoints"), ElementsAre("step-00000003"));
}

TEST(CheckpointWriter, AFailureInTheSecondFileLeavesNothing) {
    const test::TempDirectory run;
    CheckpointWriter writer(run.path(), 1, std::nullopt);
    const at::Tensor large = at::zeros({100'000});
    const FileSizeLimit limit(100'000);
    writer.write(Snapshot::take({{"heads.a", at::zeros({2})}}, {}, {{"m", large}}, {1, 3}), {});
    test::expect_error([&] { writer.wait(); }, {"optimizer.safetensors", "File too large"});
    EXPECT_THAT(names(run / "checkpoints"), ElementsAre());
}

TEST(CheckpointWriter, SaysWhatIsInTheWay) {
    const test::TempDirectory run;
    std::ofstream(run / "checkpoints") << "a file";
    CheckpointWriter writer(run.path(), 1, train::BestRule::of("auc_v2t"));
    writer.write(test::numbered_snapshot(1), {});
    test::expect_error([&] { writer.wait(); }, {"checkpoints: cannot create the directory"});
    EXPECT_EQ(read_text_file(run / "checkpoints"), "a file");
    writer.write(test::numbered_snapshot(1), {});  // nobody asks what became of it
}

}  // namespace
}  // namespace matrix
