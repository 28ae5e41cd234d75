#pragma once

#include <string>

namespace matrix::lora {

/// A published base as the Hugging Face hub knows it.
struct BaseModel {
    std::string hub_name;      ///< "THUDM/CogVideoX-5b-I2V", or empty where it is not recognised
    std::string licence;       ///< the hub's word for it, or empty
    std::string licence_name;  ///< of a licence of its own ("other")
    std::string licence_link;
    bool text_to_video = false;  ///< has no input for an image
};

/// Recognises a base by the last name of a path, or by the hub cache's directory in it
/// (models--THUDM--X, models--zai-org--X).
[[nodiscard]] BaseModel find_base_model(const std::string& path);

/// The hub's name of a recognised base, else the last name of the path: nothing of where the
/// directory lies.
[[nodiscard]] std::string base_name(const std::string& path);

}  // namespace matrix::lora
