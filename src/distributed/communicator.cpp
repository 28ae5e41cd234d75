#include "matrix/distributed/communicator.h"

#include <c10/util/Exception.h>

#include "distributed/gloo_communicator.h"
#include "distributed/single_communicator.h"
#include "matrix/core/error.h"
#ifdef MATRIX_WITH_CUDA
#include "distributed/nccl_communicator.h"
#endif

namespace matrix::distributed {
namespace {

#ifdef MATRIX_WITH_CUDA
constexpr bool kHasNccl = true;
#else
constexpr bool kHasNccl = false;
#endif

/// "gloo" or "nccl".
std::string chosen_backend(const std::string& backend, at::Device device) {
    const std::string fitting = device.is_cuda() ? "nccl" : "gloo";
    if (backend != "auto" && backend != "gloo" && backend != "nccl") {
        throw UsageError("parallel.backend is \"" + backend + "\": auto, gloo or nccl is wanted");
    }
    if (!kHasNccl && (backend == "nccl" || fitting == "nccl")) {
        throw UsageError(
            "parallel.backend: this program is built without CUDA, which nccl wants; "
            "take gloo and a CPU, or build with MATRIX_WITH_CUDA=ON");
    }
    if (backend != "auto" && backend != fitting) {
        throw UsageError("parallel.backend is \"" + backend + "\", but tensors on " + device.str() +
                         " are exchanged by " + fitting + ": take auto");
    }
    return fitting;
}

}  // namespace

std::unique_ptr<Communicator> make_communicator(const Environment& environment,
                                                const std::string& backend, at::Device device,
                                                std::chrono::seconds timeout) {
    TORCH_CHECK(timeout.count() > 0, "a time-out of ", timeout.count(), " s");
    const std::string chosen = chosen_backend(backend, device);
    if (environment.world_size == 1) {
        return make_single_communicator(device);
    }
#ifdef MATRIX_WITH_CUDA
    if (chosen == "nccl") {
        TORCH_CHECK(device.has_index(), "a GPU with its index is wanted, not ", device);
        return make_nccl_communicator(environment, device, timeout);
    }
#endif
    return make_gloo_communicator(environment, timeout);
}

}  // namespace matrix::distributed
