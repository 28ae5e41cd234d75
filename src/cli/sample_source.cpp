#include "cli/sample_source.h"

#include <ATen/Context.h>

#include "matrix/core/error.h"
#include "matrix/data_cache/reader.h"
#ifdef MATRIX_WITH_ENCODERS
#include "matrix/prepare/prepare.h"
#endif

namespace matrix::cli {

at::Device choose_device(const std::string& name) {
    const bool gpu = at::globalContext().hasCUDA();
    if (name == "cuda" && !gpu) {
        throw RunError("model.device: \"cuda\" was asked for and no GPU is available");
    }
    return gpu && name != "cpu" ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
}

std::unique_ptr<data_cache::SampleSource> open_samples(const RunConfig& config,
                                                       const data_cache::DataConfig& data,
                                                       at::ScalarType dtype, at::Device device) {
    const bool nearest = config.alignment.spa && config.alignment.spa->query == "nearest";
#ifdef MATRIX_WITH_ENCODERS
    prepare::PrepareOptions options;
    options.model = config.model.path;
    options.data = data;
    options.dtype = dtype;
    options.device = device;
    options.nearest_query = nearest;
    return prepare::open_source(options);
#else
    (void)dtype;
    (void)device;
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
                                                        at::ScalarType dtype, at::Device device) {
    if (!config.validation.data || config.validation.every_steps == 0) {
        return nullptr;
    }
    return open_samples(config, held_out_data(config), dtype, device);
}

}  // namespace matrix::cli
