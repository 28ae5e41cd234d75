#include "matrix/lora/base_model.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <string_view>

namespace matrix::lora {
namespace {

struct Published {
    std::string_view name;
    bool apache;  ///< 2B; the 5B models have a licence of their own
};

constexpr std::array<Published, 5> kPublished = {{{"CogVideoX-2b", true},
                                                  {"CogVideoX-5b", false},
                                                  {"CogVideoX-5b-I2V", false},
                                                  {"CogVideoX1.5-5B", false},
                                                  {"CogVideoX1.5-5B-I2V", false}}};

bool same_name(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

BaseModel find_base_model(const std::string& path) {
    for (const std::filesystem::path& part : std::filesystem::path(path)) {
        std::string name = part.string();
        // models--THUDM--CogVideoX-5b-I2V
        if (const std::size_t end = name.rfind("--"); end != std::string::npos) {
            name.erase(0, end + 2);
        }
        for (const Published& published : kPublished) {
            if (!same_name(name, published.name)) {
                continue;
            }
            BaseModel base;
            base.hub_name = "THUDM/" + std::string(published.name);
            base.licence = published.apache ? "apache-2.0" : "other";
            if (!published.apache) {
                base.licence_name = "cogvideox-license";
                base.licence_link =
                    "https://huggingface.co/" + base.hub_name + "/blob/main/LICENSE";
            }
            return base;
        }
    }
    return {};
}

std::string base_name(const std::string& path) {
    const BaseModel base = find_base_model(path);
    if (!base.hub_name.empty()) {
        return base.hub_name;
    }
    const std::filesystem::path directory(path);
    return (directory.has_filename() ? directory.filename() : directory.parent_path().filename())
        .string();
}

}  // namespace matrix::lora
