#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/data_source/clip.h"
#include "matrix/data_source/manifest.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace matrix::prepare {

struct DecodeJob {
    std::size_t row = 0;
    data_source::ClipParts parts;
};

struct DecodedClip {
    std::size_t job = 0;
    data_source::Clip clip;
    std::vector<std::string> faults;  ///< why there is no clip
};

/// Threads that decode clips while the caller encodes. At most one clip a thread waits for the
/// caller, which bounds the memory; clips come in the order they are ready.
class DecodeAhead {
public:
    DecodeAhead(const std::vector<data_source::Row>& rows, const data_cache::DataConfig& config,
                const std::vector<DecodeJob>& jobs, int num_threads);
    ~DecodeAhead();
    DecodeAhead(const DecodeAhead&) = delete;
    DecodeAhead& operator=(const DecodeAhead&) = delete;

    /// The next clip; none after the last.
    [[nodiscard]] std::optional<DecodedClip> next();

private:
    void work();
    [[nodiscard]] DecodedClip decode(std::size_t job) const;

    const std::vector<data_source::Row>& rows_;
    const data_cache::DataConfig& config_;
    const std::vector<DecodeJob>& jobs_;
    std::size_t capacity_;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<DecodedClip> ready_;
    std::size_t taken_ = 0;   // jobs that a thread took
    std::size_t handed_ = 0;  // clips that the caller got
    bool stopping_ = false;
    std::vector<std::jthread> threads_;
};

}  // namespace matrix::prepare
