#pragma once

#include <string>

namespace matrix::lora {

/// A published base as the Hugging Face hub knows it.
struct BaseModel {
    std::string hub_name;      ///< "THUDM/CogVideoX-5b-I2V", or empty where it is not recognised
    std::string licence;       ///< the hub's word for it, or empty
    std::string licence_name;  ///< of a licence of its own ("other")
    std::string licence_link;
};

/// Recognises a base by the names of a path to it, a download cache's included.
[[nodiscard]] BaseModel find_base_model(const std::string& path);

/// The hub's name of a recognised base, else the last name of the path: nothing of where the
/// directory lies.
[[nodiscard]] std::string base_name(const std::string& path);

}  // namespace matrix::lora
