#pragma once

#include "matrix/data_cache/sample.h"
#include "matrix/train/batch.h"

#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace matrix::train {

/// Sample numbers from the first to before the second.
using SampleRange = std::array<std::int64_t, 2>;

/// Which samples one replica of a run takes. A step that begins at sample s takes the global batch
/// from s on; its micro-batch m on replica r begins at s + (m * num_replicas + r) * batch_size.
struct SampleShare {
    std::int64_t batch_size = 1;    ///< samples of a micro-batch
    std::int64_t accumulation = 1;  ///< micro-batches of a step on each replica
    std::int64_t replica = 0;
    std::int64_t num_replicas = 1;

    [[nodiscard]] std::int64_t global_batch() const {
        return batch_size * accumulation * num_replicas;
    }
};

/// Where a step begins that would begin at `sample`: a step that holds a sample of `skipped`
/// begins behind that range instead.
[[nodiscard]] std::int64_t step_begin(std::int64_t sample, std::int64_t global_batch,
                                      const std::vector<SampleRange>& skipped);

/// Micro-batches in order, made ahead of the step on worker threads (decoding or cache reads, and
/// every draw). Its content depends on the share, the first sample and what is skipped alone.
class BatchStream {
public:
    /// `source` must outlive the stream. At most `ahead` micro-batches wait.
    BatchStream(const data_cache::SampleSource& source, BatchRules rules, SampleShare share,
                std::int64_t first_sample, std::vector<SampleRange> skipped = {}, int workers = 2,
                std::int64_t ahead = 4);
    ~BatchStream();
    BatchStream(const BatchStream&) = delete;
    BatchStream& operator=(const BatchStream&) = delete;

    /// The next micro-batch; an error of its making is thrown here.
    [[nodiscard]] Batch next();

private:
    struct Slot {
        Batch batch;
        std::exception_ptr error;
    };
    void work();
    [[nodiscard]] std::vector<std::int64_t> next_numbers();
    [[nodiscard]] Batch make(const std::vector<std::int64_t>& numbers);

    const data_cache::SampleSource& source_;
    BatchRules rules_;
    SampleShare share_;
    std::vector<SampleRange> skipped_;
    at::Tensor empty_prompt_;
    std::int64_t ahead_;

    std::mutex mutex_;
    std::condition_variable changed_;
    SampleOrder order_;
    std::map<std::int64_t, Slot> ready_;
    std::int64_t next_step_;  // sample at which the step after the one being made begins
    std::int64_t step_ = 0;   // sample at which that one begins
    std::int64_t started_ = 0;
    std::int64_t consumed_ = 0;
    bool stopping_ = false;
    std::vector<std::thread> workers_;
};

}  // namespace matrix::train
