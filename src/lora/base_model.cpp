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
    bool text_to_video;
};

constexpr std::array<Published, 5> kPublished = {{{"CogVideoX-2b", true, true},
                                                  {"CogVideoX-5b", false, true},
                                                  {"CogVideoX-5b-I2V", false, false},
                                                  {"CogVideoX1.5-5B", false, true},
                                                  {"CogVideoX1.5-5B-I2V", false, false}}};

bool same_name(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [&](char x, char y) { return lower(x) == lower(y); });
}

std::string last_name(const std::filesystem::path& path) {
    return (path.has_filename() ? path.filename() : path.parent_path().filename()).string();
}

bool is_cache_of(const std::string& part, std::string_view name) {
    return part == "models--THUDM--" + std::string(name) ||
           part == "models--zai-org--" + std::string(name);
}

bool names(const std::filesystem::path& path, std::string_view name) {
    return same_name(last_name(path), name) ||
           std::any_of(path.begin(), path.end(), [&](const std::filesystem::path& part) {
               return is_cache_of(part.string(), name);
           });
}

BaseModel as_base(const Published& published) {
    BaseModel base;
    base.hub_name = "THUDM/" + std::string(published.name);
    base.licence = published.apache ? "apache-2.0" : "other";
    base.text_to_video = published.text_to_video;
    if (!published.apache) {
        base.licence_name = "cogvideox-license";
        base.licence_link = "https://huggingface.co/" + base.hub_name + "/blob/main/LICENSE";
    }
    return base;
}

}  // namespace

BaseModel find_base_model(const std::string& path) {
    for (const Published& published : kPublished) {
        if (names(path, published.name)) {
            return as_base(published);
        }
    }
    return {};
}

std::string base_name(const std::string& path) {
    const BaseModel base = find_base_model(path);
    return base.hub_name.empty() ? last_name(path) : base.hub_name;
}

}  // namespace matrix::lora
