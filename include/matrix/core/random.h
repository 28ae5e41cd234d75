#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <string_view>

namespace matrix {

/// What a random number is for. Every draw is keyed by (seed, purpose, number), so it depends
/// neither on the rank nor on the thread nor on what was drawn before it; `number` is the global
/// sample number unless said otherwise.
enum class Purpose : std::uint64_t {
    kSampleOrder = 1,  ///< number = epoch
    kVideoPosterior = 2,
    kImageSigma = 3,
    kImageNoise = 4,
    kImagePosterior = 5,
    kNoise = 6,
    kTimestep = 7,
    kImageDropout = 8,
    kCaptionDropout = 9,
    kIdMapDropout = 10,
    kImageVersion = 11,
    kLoraInit = 12,      ///< number = hash of the tensor's key
    kHeadInit = 13,      ///< number = hash of the tensor's key
    kModelInit = 14,     ///< number = hash of the tensor's key
    kSynth = 15,         ///< number = clip
    kSamplerNoise = 16,  ///< number = draw of one video
};

/// A generator for one keyed draw; equal keys give equal streams on one kind of device.
[[nodiscard]] at::Generator keyed_generator(std::uint64_t seed, Purpose purpose,
                                            std::uint64_t number, c10::Device device = c10::kCPU);

/// Standard normal values, float32 on the CPU, for one keyed draw.
[[nodiscard]] at::Tensor keyed_normal(at::IntArrayRef shape, std::uint64_t seed, Purpose purpose,
                                      std::uint64_t number);

/// One value in [0, 1) for one keyed draw.
[[nodiscard]] double keyed_uniform(std::uint64_t seed, Purpose purpose, std::uint64_t number);

/// One integer in [0, bound) for one keyed draw.
[[nodiscard]] std::int64_t keyed_integer(std::int64_t bound, std::uint64_t seed, Purpose purpose,
                                         std::uint64_t number);

/// A stable 64-bit hash of a name, to key draws by tensor names and clip contents.
[[nodiscard]] std::uint64_t name_key(std::string_view name);

}  // namespace matrix
