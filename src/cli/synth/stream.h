#pragma once

#include "matrix/core/random.h"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace matrix::synth {

/// What a clip draws numbers for; each has a stream of its own, so that a change to the captions
/// moves no pixel.
enum class Draw : std::uint64_t { kTwin = 1, kScene = 2, kCaption = 3 };

/// Scrambles 64 bits (the SplitMix64 finaliser: Steele, Lea and Flood 2014).
[[nodiscard]] constexpr std::uint64_t scramble(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

/// A SplitMix64 stream keyed by (seed, clip, draw): integer arithmetic only, so the same on every
/// machine.
class Stream {
public:
    Stream(std::uint64_t seed, std::int64_t clip, Draw draw)
        : state_(scramble(scramble(scramble(seed + kGolden) +
                                   static_cast<std::uint64_t>(Purpose::kSynth)) +
                          static_cast<std::uint64_t>(clip) * kGolden) +
                 static_cast<std::uint64_t>(draw)) {
        state_ = scramble(state_);
    }

    std::uint64_t bits() { return scramble(state_ += kGolden); }
    /// In [0, 1).
    double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    bool chance(double probability) { return uniform() < probability; }
    /// In [0, bound).
    std::size_t index(std::size_t bound) {
        return static_cast<std::size_t>(uniform() * static_cast<double>(bound));
    }

    template <typename T>
    T pick(std::initializer_list<T> choices) {
        return choices.begin()[index(choices.size())];
    }
    template <typename T>
    void shuffle(std::vector<T>& values) {
        for (std::size_t i = values.size(); i > 1; --i) {
            std::swap(values[i - 1], values[index(i)]);
        }
    }

private:
    static constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;
    std::uint64_t state_;
};

}  // namespace matrix::synth
