#include "matrix/train/batch_stream.h"

#include <ATen/Parallel.h>

#include <utility>

namespace matrix::train {

BatchStream::BatchStream(const data_cache::SampleSource& source, BatchRules rules,
                         std::int64_t batch_size, std::int64_t first_sample, int workers,
                         std::int64_t ahead)
    : source_(source),
      rules_(rules),
      batch_size_(batch_size),
      empty_prompt_(source.empty_prompt()),
      first_sample_(first_sample),
      ahead_(ahead),
      order_(source.size(), rules.seed) {
    // A thread takes its number of threads when it first asks, from a value that the workers below
    // set to 1.
    (void)at::get_num_threads();
    for (int i = 0; i < workers; ++i) {
        workers_.emplace_back([this] { work(); });
    }
}

BatchStream::~BatchStream() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& worker : workers_) {
        worker.join();
    }
}

Batch BatchStream::make(std::int64_t unit) {
    std::vector<std::int64_t> numbers, rows;
    {
        const std::lock_guard lock(mutex_);
        for (std::int64_t i = 0; i < batch_size_; ++i) {
            numbers.push_back(first_sample_ + unit * batch_size_ + i);
            rows.push_back(order_.row(numbers.back()));
        }
    }
    std::vector<data_cache::EncodedSample> samples;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        samples.push_back(
            source_.get(rows[i], rules_.seed, static_cast<std::uint64_t>(numbers[i])));
    }
    return make_batch(samples, numbers, empty_prompt_, rules_);
}

void BatchStream::work() {
    // The step needs the cores; a worker that brought its own team of threads would take them.
    at::set_num_threads(1);
    while (true) {
        std::int64_t unit = 0;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return stopping_ || started_ < consumed_ + ahead_; });
            if (stopping_) {
                return;
            }
            unit = started_++;
        }
        Slot slot;
        try {
            slot.batch = make(unit);
        } catch (...) {
            slot.error = std::current_exception();
        }
        {
            const std::lock_guard lock(mutex_);
            ready_.emplace(unit, std::move(slot));
        }
        changed_.notify_all();
    }
}

Batch BatchStream::next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ready_.count(consumed_) != 0; });
    auto node = ready_.extract(consumed_);
    ++consumed_;
    lock.unlock();
    changed_.notify_all();
    if (node.mapped().error) {
        std::rethrow_exception(node.mapped().error);
    }
    return std::move(node.mapped().batch);
}

}  // namespace matrix::train
