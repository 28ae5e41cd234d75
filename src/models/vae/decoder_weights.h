#pragma once

#include "matrix/models/vae_encoder.h"

#include <functional>
#include <string>

namespace matrix::models::vae {

/// Calls `visit` with every key and shape of the decoder, which shares a file with the encoder.
void for_each_decoder_weight(
    const VaeConfig& config,
    const std::function<void(const std::string& key, at::IntArrayRef shape)>& visit);

}  // namespace matrix::models::vae
