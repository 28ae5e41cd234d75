#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "matrix/core/cuda_device.h"
#include "train/trajectory.h"
#ifdef MATRIX_WITH_CUDA
#include <c10/cuda/CUDAFunctions.h>
#endif

// A step queues its work on a GPU and never waits for it. On a CPU nothing waits, but the same
// operations are called: those that would wait are counted.

namespace matrix {
namespace {

constexpr std::string_view kWaiting[] = {"aten::item",
                                         "aten::_local_scalar_dense",
                                         "aten::is_nonzero",
                                         "aten::nonzero",
                                         "aten::masked_select",
                                         "aten::equal",
                                         "aten::allclose",
                                         "aten::_unique2",
                                         "aten::unique_dim",
                                         "aten::bincount",
                                         "aten::unique_consecutive",
                                         "aten::repeat_interleave"};

std::mutex mutex;
std::vector<std::string> waiting;
std::size_t calls = 0;

/// From one device to another by way of to(), which waits for the host's end: upload() is for that.
bool names_a_device(const at::RecordFunction& function) {
    const std::string_view name = function.name();
    return (name == "aten::to" || name == "aten::_to_copy") &&
           std::ranges::any_of(function.inputs(),
                               [](const c10::IValue& value) { return value.isDevice(); });
}

/// Whose CPU code reads numbers from tensors, for which their CUDA code has kernels.
bool reads_on_cpus_alone(std::string_view name) {
    return name == "aten::_fused_adamw_" || name.starts_with("aten::_foreach_");
}
thread_local int inside_those = 0;

std::unique_ptr<at::ObserverContext> note(const at::RecordFunction& function) {
    const std::string_view name = function.name();
    if (reads_on_cpus_alone(name)) {
        ++inside_those;
    }
    const std::lock_guard lock(mutex);
    ++calls;
    if (inside_those == 0 &&
        (std::ranges::find(kWaiting, name) != std::end(kWaiting) || names_a_device(function))) {
        waiting.emplace_back(name);
    }
    return nullptr;
}

void end_note(const at::RecordFunction& function, at::ObserverContext*) {
    if (reads_on_cpus_alone(function.name())) {
        --inside_those;
    }
}

/// The names of what waits in a call.
std::vector<std::string> waits_in(const std::function<void()>& call) {
    waiting.clear();
    calls = 0;
    const auto handle = at::addGlobalCallback(at::RecordFunctionCallback(note, end_note)
                                                  .needsInputs(true)
                                                  .scopes({at::RecordScope::FUNCTION}));
    call();
    at::removeCallback(handle);
    EXPECT_GT(calls, 0u);
    return waiting;
}

TEST(HostSync, IsSeenWhereItIs) {
    const at::Tensor x = at::ones({3});
    EXPECT_FALSE(waits_in([&] { (void)x.sum().item<float>(); }).empty());
    EXPECT_FALSE(waits_in([&] { (void)x.index({x > 0}); }).empty());
    EXPECT_FALSE(waits_in([&] { (void)at::equal(x, x); }).empty());
    EXPECT_FALSE(waits_in([&] { (void)x.to(at::kCPU); }).empty());
    EXPECT_FALSE(waits_in([&] { (void)x.to(at::kCPU, at::kDouble); }).empty());
    EXPECT_TRUE(waits_in([&] { (void)(x.to(at::kDouble) + 1).sum(); }).empty());
}

TEST(HostSync, IsNowhereInAStep) {
    for (const nn::Keep keep :
         {nn::Keep::kInput, nn::Keep::kOffloaded, nn::Keep::kAttention, nn::Keep::kGraph}) {
        test::Trajectory t;
        (void)t.train_step(0, true, keep);  // makes what depends on sizes alone
        std::vector<train::Batch> batches = {t.batch(1, 0, 1), t.batch(1, 1, 2)};
        const auto found = waits_in([&] { (void)t.train_on(batches, *t.optimizer, 1.0, keep); });
        EXPECT_TRUE(found.empty()) << testing::PrintToString(found);
    }
}

#ifdef MATRIX_WITH_CUDA
TEST(HostSync, IsNotMissedByCuda) {
    if (!at::globalContext().hasCUDA()) {
        GTEST_SKIP() << "no GPU";
    }
    for (const nn::Keep keep : {nn::Keep::kOffloaded, nn::Keep::kAttention}) {
        test::Trajectory t(cuda_device(0));
        (void)t.train_step(0, true, keep);
        std::vector<train::Batch> batches = {t.batch(1, 0, 1), t.batch(1, 1, 2)};
        c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR);
        EXPECT_NO_THROW((void)t.train_on(batches, *t.optimizer, 1.0, keep));
        c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_DISABLED);
    }
}
#endif

}  // namespace
}  // namespace matrix
