#include "cli/sample_source.h"

#include <ATen/Context.h>

#include "matrix/core/cuda_device.h"
#include "matrix/core/error.h"
#include "matrix/data_cache/reader.h"
#ifdef MATRIX_WITH_ENCODERS
#include "matrix/prepare/prepare.h"
#endif

namespace matrix::cli {

at::Device choose_device(const std::string& name, int local_rank) {
    const bool gpu = at::globalContext().hasCUDA();
    if (name == "cuda" && !gpu) {
        throw RunError("model.device: \"cuda\" was asked for and no GPU is available");
    }
    if (!gpu || name == "cpu") {
        return at::kCPU;
    }
    const auto num_gpus = static_cast<int>(at::getNumGPUs());
    if (local_rank >= num_gpus) {
        throw RunError("model.device: process " + std::to_string(local_rank) +
                       " of this machine wants a GPU of its own, and " + std::to_string(num_gpus) +
                       " can be seen");
    }
    return cuda_device(local_rank);
}

std::unique_ptr<data_cache::SampleSource> open_samples(const RunConfig& config,
                                                       const data_cache::DataConfig& data,
                                                       at::ScalarType dtype, at::Device device,
                                                       distributed::Communicator& ranks) {
    const bool nearest = config.alignment.spa && config.alignment.spa->query == "nearest";
#ifdef MATRIX_WITH_ENCODERS
    prepare::PrepareOptions options;
    options.model = config.model.path;
    options.data = data;
    options.dtype = dtype;
    options.device = device;
    options.nearest_query = nearest;
    options.ranks = &ranks;
    return prepare::open_source(options);
#else
    (void)dtype;
    (void)device;
    (void)ranks;
    if (!data.cache) {
        throw UsageError(
            "data.cache: null needs the video decoders, which this program was built without");
    }
    return data_cache::open_cache(data, config.model.path, config.model.dtype, nearest);
#endif
}

data_cache::DataConfig held_out_data(const RunConfig& config) {
    data_cache::DataConfig data = config.data;
    data.path = *config.validation.data;
    if (data.cache) {
        data.cache = *data.cache + "-heldout";
    }
    return data;
}

std::unique_ptr<data_cache::SampleSource> open_held_out(const RunConfig& config,
                                                        at::ScalarType dtype, at::Device device,
                                                        distributed::Communicator& ranks) {
    const train::ValidationConfig& validation = config.validation;
    if (!validation.data || (validation.every_steps == 0 && validation.samples.every_steps == 0)) {
        return nullptr;
    }
    return open_samples(config, held_out_data(config), dtype, device, ranks);
}

}  // namespace matrix::cli
