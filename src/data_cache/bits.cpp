#include "matrix/data_cache/entries.h"

#include <ATen/ATen.h>

#include <array>
#include <cstring>

namespace matrix::data_cache {
namespace {

// Eight mask bytes for each byte of bits.
constexpr auto kSpread = [] {
    std::array<std::array<std::uint8_t, 8>, 256> table{};
    for (std::size_t byte = 0; byte < table.size(); ++byte) {
        for (std::size_t bit = 0; bit < 8; ++bit) {
            table[byte][bit] = static_cast<std::uint8_t>((byte >> bit) & 1U);
        }
    }
    return table;
}();

}  // namespace

at::Tensor pack_bits(const at::Tensor& masks) {
    TORCH_CHECK(masks.dim() == 4 && masks.scalar_type() == at::kByte &&
                    masks.size(2) * masks.size(3) % 8 == 0,
                "masks must be uint8 [n, T, H, W] with H * W a multiple of 8");
    const at::Tensor flat = masks.contiguous();
    at::Tensor bits =
        at::zeros({masks.size(0), masks.size(1), masks.size(2) * masks.size(3) / 8}, at::kByte);
    const auto* in = flat.const_data_ptr<std::uint8_t>();
    auto* out = bits.mutable_data_ptr<std::uint8_t>();
    for (std::int64_t i = 0; i < bits.numel(); ++i) {
        unsigned byte = 0;
        for (unsigned bit = 0; bit < 8; ++bit) {
            byte |= (in[8 * i + bit] != 0 ? 1U : 0U) << bit;
        }
        out[i] = static_cast<std::uint8_t>(byte);
    }
    return bits;
}

void unpack_bits(const at::Tensor& track, const at::Tensor& out) {
    TORCH_CHECK(track.scalar_type() == at::kByte && track.is_contiguous() &&
                    out.scalar_type() == at::kByte && out.is_contiguous() &&
                    out.numel() == 8 * track.numel(),
                "unpack_bits: wrong dtype, layout or size");
    const auto* in = track.const_data_ptr<std::uint8_t>();
    auto* to = out.mutable_data_ptr<std::uint8_t>();
    for (std::int64_t i = 0; i < track.numel(); ++i) {
        std::memcpy(to + 8 * i, kSpread[in[i]].data(), 8);
    }
}

}  // namespace matrix::data_cache
