#include "matrix/data_cache/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace matrix::data_cache {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(DataConfig, DefaultsAreSound) {
    DataConfig config;
    EXPECT_THAT(check(config), ElementsAre());
    EXPECT_EQ(fields(config).write(), nlohmann::json::parse(R"({
        "path": "data/train", "frames": 49, "height": 480, "width": 720, "cache": "cache/train",
        "resize": "crop", "sampling": "head", "stride": 1, "fps": null, "id_map": true,
        "id_map_dropout": 0.1, "strip_id_markers": true, "image_dropout": 0.05,
        "caption_dropout": 0.0, "image_noise_draws": 8})"));
}

TEST(DataConfig, ReadsNullAndNumbers) {
    DataConfig config;
    std::vector<std::string> faults;
    fields(config).read(nlohmann::json::parse(R"({"cache": null, "fps": 8})"), faults, "data");
    EXPECT_THAT(faults, ElementsAre());
    EXPECT_FALSE(config.cache.has_value());
    EXPECT_EQ(config.fps, 8.0);
}

TEST(DataConfig, EachFieldHasItsRange) {
    for (const char* text :
         {R"({"frames": 0})", R"({"resize": "fit"})", R"({"sampling": "tail"})", R"({"fps": 0})",
          R"({"id_map_dropout": 1.1})", R"({"image_dropout": -0.1})", R"({"caption_dropout": 2})",
          R"({"image_noise_draws": 0})", R"({"stride": 0})", R"({"heigth": 480})"}) {
        DataConfig config;
        std::vector<std::string> faults;
        fields(config).read(nlohmann::json::parse(text), faults, "data");
        EXPECT_THAT(faults, ElementsAre(HasSubstr("data."))) << text;
    }
}

TEST(DataConfig, FaultsBetweenFieldsNameTheirPath) {
    DataConfig config;
    config.frames = 48;
    config.height = 470;
    config.width = 721;
    config.sampling = "uniform";
    config.fps = 8.0;
    config.stride = 2;
    config.path = "";
    config.cache = "";
    EXPECT_THAT(check(config, "data"),
                ElementsAre(HasSubstr("data.path: is empty"), HasSubstr("data.cache: is empty"),
                            HasSubstr("data.frames: 48 is not 4k + 1; the nearest are 45 and 49"),
                            HasSubstr("data.height: 470 is not a multiple of 16"),
                            HasSubstr("data.width: 721 is not a multiple of 16"),
                            HasSubstr("data.fps: goes only with data.sampling \"head\""),
                            HasSubstr("data.stride: goes only with data.sampling \"stride\"")));
}

}  // namespace
}  // namespace matrix::data_cache
