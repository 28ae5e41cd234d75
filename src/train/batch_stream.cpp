#include "matrix/train/batch_stream.h"

#include <ATen/Parallel.h>

#include <numeric>
#include <utility>

namespace matrix::train {

std::int64_t step_begin(std::int64_t sample, std::int64_t global_batch,
                        const std::vector<SampleRange>& skipped) {
    for (bool moved = true; moved;) {
        moved = false;
        for (const auto& [begin, end] : skipped) {
            if (sample < end && begin < sample + global_batch) {
                sample = end;
                moved = true;
            }
        }
    }
    return sample;
}

BatchStream::BatchStream(const data_cache::SampleSource& source, BatchRules rules,
                         SampleShare share, std::int64_t first_sample,
                         std::vector<SampleRange> skipped, int workers, std::int64_t ahead)
    : source_(source),
      rules_(rules),
      share_(share),
      skipped_(std::move(skipped)),
      empty_prompt_(source.empty_prompt()),
      ahead_(ahead),
      order_(source.size(), rules.seed),
      next_step_(first_sample) {
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

std::vector<std::int64_t> BatchStream::next_numbers() {
    const std::int64_t micro_batch = started_++ % share_.accumulation;
    if (micro_batch == 0) {
        step_ = step_begin(next_step_, share_.global_batch(), skipped_);
        next_step_ = step_ + share_.global_batch();
    }
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(share_.batch_size));
    std::iota(numbers.begin(), numbers.end(),
              step_ + (micro_batch * share_.num_replicas + share_.replica) * share_.batch_size);
    return numbers;
}

Batch BatchStream::make(const std::vector<std::int64_t>& numbers) {
    std::vector<std::int64_t> rows;
    {
        const std::lock_guard lock(mutex_);
        for (const std::int64_t number : numbers) {
            rows.push_back(order_.row(number));
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
        std::vector<std::int64_t> numbers;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return stopping_ || started_ < consumed_ + ahead_; });
            if (stopping_) {
                return;
            }
            unit = started_;
            numbers = next_numbers();
        }
        Slot slot;
        try {
            slot.batch = make(numbers);
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
