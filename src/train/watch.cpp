#include "train/watch.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include "matrix/log/log.h"

namespace matrix::train {
namespace {

// Chosen here: a window that the learning rate hardly moves in, and a factor that the spread
// between timesteps stays below.
constexpr std::size_t kWindow = 100;
constexpr std::size_t kEnough = 20;
constexpr double kSpike = 5.0;
constexpr std::chrono::seconds kPoll{1};

}  // namespace

void RecentValues::add(double value) {
    values_.push_back(value);
    if (values_.size() > kWindow) {
        values_.pop_front();
    }
}

std::optional<double> RecentValues::median() const {
    if (values_.size() < kEnough) {
        return std::nullopt;
    }
    std::vector<double> sorted(values_.begin(), values_.end());
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    return *middle;
}

std::optional<std::string> LossWatch::look(double loss) {
    if (!std::isfinite(loss)) {
        return std::nullopt;
    }
    const std::optional<double> usual = recent_.median();
    recent_.add(loss);
    if (!usual || loss <= kSpike * *usual) {
        return std::nullopt;
    }
    char text[128];
    std::snprintf(text, sizeof text, "the loss is %.4g, %.1f times the median of the steps before",
                  loss, loss / *usual);
    return text;
}

StallWatch::StallWatch(std::function<std::string()> where, const StallLimits& limits)
    : where_(std::move(where)), limits_(limits), thread_([this] { run(); }) {}

StallWatch::~StallWatch() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
}

void StallWatch::begin(const std::string& step) {
    const std::lock_guard lock(mutex_);
    step_ = step;
    started_ = Clock::now();
    began_ = started_;
}

void StallWatch::end() {
    const std::lock_guard lock(mutex_);
    seconds_.add(std::chrono::duration<double>(Clock::now() - started_).count());
    began_.reset();
}

void StallWatch::run() {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, kPoll, [this] { return stopping_; })) {
        if (!began_) {
            continue;
        }
        const double taken = std::chrono::duration<double>(Clock::now() - *began_).count();
        const double usual = seconds_.median().value_or(limits_.unknown_step_seconds);
        if (taken < std::max(limits_.shortest_seconds, limits_.factor * usual)) {
            continue;
        }
        began_.reset();
        const std::string step = step_;
        lock.unlock();
        log::warning(step + " has taken " + std::to_string(std::lround(taken)) +
                     " s and is not done: " + where_());
        lock.lock();
    }
}

}  // namespace matrix::train
