#include "distributed/phase_board.h"

#include <exception>
#include <utility>

#include "distributed/messages.h"

namespace matrix::distributed {

PhaseBoard::PhaseBoard(std::function<void(const std::string&)> write) : write_(std::move(write)) {
    state_.phase = "joining the group";
    write_(next());
    thread_ = std::thread([this] { run(); });
}

PhaseBoard::~PhaseBoard() {
    stop();
}

void PhaseBoard::set_phase(std::string_view what) {
    const std::lock_guard lock(mutex_);
    state_.phase = first_line(what);
}

std::string PhaseBoard::phase() const {
    const std::lock_guard lock(mutex_);
    return state_.phase;
}

std::int64_t PhaseBoard::join(const std::string& group, std::string_view what) {
    const std::lock_guard lock(mutex_);
    state_.phase = first_line(what);
    return ++state_.groups[group].joined;
}

void PhaseBoard::leave_group(const std::string& group) {
    const std::lock_guard lock(mutex_);
    state_.groups[group].left = true;
}

void PhaseBoard::leave() {
    stop();
    state_.left = true;
    try {
        write_(next());
    } catch (const std::exception&) {
        // Rank 0 took the store with it: nobody is left to read this.
    }
}

void PhaseBoard::run() {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, kBeat, [this] { return stopping_; })) {
        const std::string text = next();
        lock.unlock();
        try {
            write_(text);
        } catch (const std::exception&) {
            return;  // without a store the next exchange fails, and says so
        }
        lock.lock();
    }
}

std::string PhaseBoard::next() {
    ++state_.beat;
    state_.written = std::chrono::system_clock::now();
    return state_.encoded();
}

void PhaseBoard::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

}  // namespace matrix::distributed
