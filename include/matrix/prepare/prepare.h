#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/data_cache/sample.h"
#include "matrix/distributed/communicator.h"
#include "matrix/prepare/encoders.h"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace matrix::prepare {

struct PrepareOptions {
    std::filesystem::path model;  ///< Hugging Face directory: vae/, text_encoder/, tokenizer/
    data_cache::DataConfig data;
    at::ScalarType dtype =
        at::kBFloat16;  ///< the encoders run in it; moments are stored in float32
    at::Device device = at::kCPU;
    bool nearest_query = false;  ///< alignment.spa.query = "nearest"
    int num_decoders = 2;        ///< threads that decode ahead of the encoder
    /// Processes that share the work on one cache, all calling alike; null for one.
    distributed::Communicator* ranks = nullptr;
};

/// Brings the cache at data.cache up to date with the data set: what is there and valid stays, what
/// is missing, damaged or made from something else is encoded. Interrupted at any point (a stop
/// signal throws Stopped between two clips), the next call goes on from there. Entries that no row
/// refers to any more are kept. RunError with every fault of the data set at once; clips that are
/// good are encoded all the same when the fault shows only in decoding.
void prepare(const PrepareOptions& options);
void prepare(const PrepareOptions& options, const Encoders& encoders);

/// Reads everything again, without any memo: source files, encoders and every byte of the cache.
/// One line per fault.
[[nodiscard]] std::vector<std::string> verify(const PrepareOptions& options);
[[nodiscard]] std::vector<std::string> verify(const PrepareOptions& options,
                                              const Encoders& encoders);

/// Where training gets its samples from: the cache, prepared first where something is missing, or,
/// where data.cache is null, encoders that run at every step. A complete cache is used as it stands
/// where the data set or the encoders are not there (data_cache::open_cache).
[[nodiscard]] std::unique_ptr<data_cache::SampleSource> open_source(const PrepareOptions& options);
[[nodiscard]] std::unique_ptr<data_cache::SampleSource> open_source(const PrepareOptions& options,
                                                                    const Encoders& encoders);

}  // namespace matrix::prepare
