#include "matrix/core/random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/ops/randn.h>
#include <c10/util/Exception.h>

namespace matrix {
namespace {

// The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection whose every output bit depends
// on every input bit.
std::uint64_t mix(std::uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

std::uint64_t key(std::uint64_t seed, Purpose purpose, std::uint64_t number) {
    return mix(mix(mix(seed) ^ static_cast<std::uint64_t>(purpose)) ^ number);
}

}  // namespace

at::Generator keyed_generator(std::uint64_t seed, Purpose purpose, std::uint64_t number,
                              c10::Device device) {
    if (!device.is_cpu()) {
        at::Generator generator = at::globalContext().defaultGenerator(device).clone();
        generator.set_current_seed(key(seed, purpose, number));
        return generator;
    }
    // Seeding by a number uses 32 bits of it, and among some ten thousand samples two would get the
    // same noise: the whole state of the engine is filled from the 64-bit key instead.
    std::uint64_t state = key(seed, purpose, number);
    at::mt19937_data_pod data{};
    data.seed_ = state;
    data.seeded_ = true;
    data.left_ = 1;
    data.next_ = 0;
    for (auto& word : data.state_) {
        word = static_cast<std::uint32_t>(mix(state) >> 32);
        state += 0x9E3779B97F4A7C15u;
    }
    at::mt19937 engine;
    engine.set_data(data);
    at::Generator generator = at::detail::createCPUGenerator(data.seed_);
    generator.get<at::CPUGeneratorImpl>()->set_engine(engine);
    return generator;
}

at::Tensor keyed_normal(at::IntArrayRef shape, std::uint64_t seed, Purpose purpose,
                        std::uint64_t number) {
    return at::randn(shape, keyed_generator(seed, purpose, number),
                     at::TensorOptions().dtype(at::kFloat).device(at::kCPU));
}

double keyed_uniform(std::uint64_t seed, Purpose purpose, std::uint64_t number) {
    return static_cast<double>(mix(key(seed, purpose, number)) >> 11) * 0x1.0p-53;
}

std::int64_t keyed_integer(std::int64_t bound, std::uint64_t seed, Purpose purpose,
                           std::uint64_t number) {
    TORCH_CHECK(bound > 0, "keyed_integer: the bound is ", bound);
    // The remainder prefers small values by bound / 2^64, which nothing here can see.
    return static_cast<std::int64_t>(mix(key(seed, purpose, number)) %
                                     static_cast<std::uint64_t>(bound));
}

std::uint64_t name_key(std::string_view name) {
    std::uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
    for (const char c : name) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    }
    return hash;
}

}  // namespace matrix
