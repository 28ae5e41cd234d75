#pragma once

#include "matrix/data_cache/sample.h"
#include "matrix/train/batch.h"

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace matrix::train {

/// Micro-batches in order, made ahead of the step on worker threads (decoding or cache reads, and
/// every draw). Micro-batch u holds samples u * batch_size and following, so the stream can begin
/// anywhere and its content depends on nothing else.
class BatchStream {
public:
    /// `source` must outlive the stream. At most `ahead` micro-batches wait.
    BatchStream(const data_cache::SampleSource& source, BatchRules rules, std::int64_t batch_size,
                std::int64_t first_sample, int workers = 2, std::int64_t ahead = 4);
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
    [[nodiscard]] Batch make(std::int64_t unit);

    const data_cache::SampleSource& source_;
    BatchRules rules_;
    std::int64_t batch_size_;
    at::Tensor empty_prompt_;
    std::int64_t first_sample_;
    std::int64_t ahead_;

    std::mutex mutex_;
    std::condition_variable changed_;
    SampleOrder order_;
    std::map<std::int64_t, Slot> ready_;
    std::int64_t started_ = 0;
    std::int64_t consumed_ = 0;
    bool stopping_ = false;
    std::vector<std::thread> workers_;
};

}  // namespace matrix::train
