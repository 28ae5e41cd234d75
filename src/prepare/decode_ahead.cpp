#include "prepare/decode_ahead.h"

#include "matrix/core/error.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace matrix::prepare {

DecodeAhead::DecodeAhead(const std::vector<data_source::Row>& rows,
                         const data_cache::DataConfig& config, const std::vector<DecodeJob>& jobs,
                         int num_threads)
    : rows_(rows),
      config_(config),
      jobs_(jobs),
      capacity_(static_cast<std::size_t>(std::max(num_threads, 1))) {
    for (std::size_t i = 0; i < std::min(capacity_, jobs_.size()); ++i) {
        threads_.emplace_back([this] { work(); });
    }
}

DecodeAhead::~DecodeAhead() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
}

std::optional<DecodedClip> DecodeAhead::next() {
    std::unique_lock lock(mutex_);
    if (handed_ == jobs_.size()) {
        return std::nullopt;
    }
    changed_.wait(lock, [&] { return !ready_.empty(); });
    DecodedClip clip = std::move(ready_.front());
    ready_.pop_front();
    ++handed_;
    changed_.notify_all();
    return clip;
}

void DecodeAhead::work() {
    for (;;) {
        std::size_t job = 0;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return stopping_ || ready_.size() < capacity_; });
            if (stopping_ || taken_ == jobs_.size()) {
                return;
            }
            job = taken_++;
        }
        DecodedClip clip = decode(job);
        {
            const std::lock_guard lock(mutex_);
            ready_.push_back(std::move(clip));
        }
        changed_.notify_all();
    }
}

// No exception may leave a thread: whatever goes wrong with a clip is that clip's fault.
DecodedClip DecodeAhead::decode(std::size_t job) const {
    DecodedClip result;
    result.job = job;
    const data_source::Row& row = rows_[jobs_[job].row];
    try {
        result.clip = data_source::load_clip(row, config_, jobs_[job].parts);
    } catch (const Error& e) {
        result.faults = e.faults();
    } catch (const std::exception& e) {
        result.faults.push_back(row.where + ": " + e.what());
    }
    return result;
}

}  // namespace matrix::prepare
