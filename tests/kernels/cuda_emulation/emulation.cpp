#include <ucontext.h>

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "cuda_runtime.h"

namespace matrix::cuda_emulation {
namespace {

constexpr std::size_t kStackBytes = 64 << 10, kWarp = 32;

enum class State { kReady, kAtWarp, kAtBlock, kDone };  ///< not begun is ready too

struct Thread {
    State state;
    std::size_t fiber;
    unsigned exchanges;
};

/// Does threads one after another, and needs another beside it only while one of them waits: most
/// threads never do, and changing places is a call of the system.
struct Fiber {
    ucontext_t context{};
    std::unique_ptr<char[]> stack{new char[kStackBytes]};
};

struct Machine {
    ucontext_t scheduler{};
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<std::size_t> idle;  ///< of them
    std::vector<Thread> threads;
    std::size_t current = 0;        ///< thread
    std::size_t next = 0, end = 0;  ///< threads of a warp that are not begun
    void (*thread)(const void*) = nullptr;
    const void* context = nullptr;
    // By turns, so that a thread may give its next value before all have read the last.
    std::array<std::vector<std::uint64_t>, 2> given;
    std::int64_t launches = 0;
};
Machine machine;

void set_current(std::size_t thread) {
    machine.current = thread;
    threadIdx.x = static_cast<unsigned>(thread);
}

void do_threads(int fiber) {
    const auto own = static_cast<std::size_t>(fiber);
    for (;;) {
        while (machine.next < machine.end) {
            const std::size_t thread = machine.next++;
            machine.threads[thread].fiber = own;
            set_current(thread);
            machine.thread(machine.context);
            machine.threads[thread].state = State::kDone;
        }
        machine.idle.push_back(own);
        swapcontext(&machine.fibers[own]->context, &machine.scheduler);
    }
}

void wait(State state) {
    Thread& own = machine.threads[machine.current];
    own.state = state;
    swapcontext(&machine.fibers[own.fiber]->context, &machine.scheduler);
}

/// A fiber with nothing to do.
std::size_t idle_fiber() {
    if (machine.idle.empty()) {
        machine.idle.push_back(machine.fibers.size());
        Fiber& fiber = *machine.fibers.emplace_back(std::make_unique<Fiber>());
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = kStackBytes;
        // makecontext wants a function without arguments, and calls it with those that follow.
        makecontext(&fiber.context, reinterpret_cast<void (*)()>(do_threads), 1,
                    static_cast<int>(machine.idle.back()));
    }
    const std::size_t fiber = machine.idle.back();
    machine.idle.pop_back();
    return fiber;
}

void begin_warp(std::size_t begin, std::size_t end) {
    machine.next = begin;
    machine.end = end;
    while (machine.next < machine.end) {
        swapcontext(&machine.scheduler, &machine.fibers[idle_fiber()]->context);
    }
}

void resume_ready(std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
        if (machine.threads[i].state == State::kReady) {
            set_current(i);
            swapcontext(&machine.scheduler, &machine.fibers[machine.threads[i].fiber]->context);
        }
    }
}

/// Whether all of [begin, end) were in a state; they are ready then.
bool release(State state, std::size_t begin, std::size_t end) {
    const auto of_warp = std::span(machine.threads).subspan(begin, end - begin);
    const auto is_in = [&](const Thread& thread) { return thread.state == state; };
    if (!std::ranges::all_of(of_warp, is_in)) {
        return false;
    }
    for (Thread& thread : of_warp) {
        thread.state = State::kReady;
    }
    return true;
}

void run_block(std::size_t count) {
    machine.threads.assign(count, {State::kReady, 0, 0});
    bool is_begun = false;
    do {
        for (std::size_t i = 0; i < count; i += kWarp) {
            const std::size_t end = std::min(i + kWarp, count);
            if (is_begun) {
                resume_ready(i, end);
            } else {
                begin_warp(i, end);
            }
            while (release(State::kAtWarp, i, end)) {
                resume_ready(i, end);
            }
        }
        is_begun = true;
    } while (release(State::kAtBlock, 0, count));
    for (const Thread& thread : machine.threads) {
        if (thread.state != State::kDone) {
            throw std::logic_error("threads of a block wait for others that do not come");
        }
    }
}

}  // namespace

void run_grid(dim3 grid, dim3 block, void (*thread)(const void*), const void* context) {
    ++machine.launches;
    machine.thread = thread;
    machine.context = context;
    for (auto& values : machine.given) {
        values.resize(block.x);
    }
    gridDim = grid;
    blockDim = block;
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
        run_block(block.x);
    }
}

void wait_for_block() {
    wait(State::kAtBlock);
}

void wait_for_warp() {
    wait(State::kAtWarp);
}

std::uint64_t exchange(std::uint64_t value, unsigned offset) {
    const std::size_t own = machine.current;
    auto& given = machine.given[machine.threads[own].exchanges++ % 2];
    given[own] = value;
    wait_for_warp();
    return given[own ^ offset];
}

std::int64_t launches() {
    return machine.launches;
}

}  // namespace matrix::cuda_emulation
