#pragma once

#include <ATen/ATen.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "matrix/data_cache/config.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"
#include "support/temp_directory.h"

namespace matrix::test {

/// A data set on disk, small enough to make for every test: clips of 48 x 32 pixels.
class Dataset {
public:
    static constexpr std::int64_t kHeight = 32, kWidth = 48;

    Dataset() { std::filesystem::create_directories(root() / "videos"); }

    [[nodiscard]] const std::filesystem::path& root() const { return directory_.path(); }

    [[nodiscard]] data_cache::DataConfig config() const {
        data_cache::DataConfig config;
        config.path = root().string();
        config.cache.reset();
        config.frames = 5;
        config.height = kHeight;
        config.width = kWidth;
        config.image_noise_draws = 3;
        return config;
    }

    void write(const std::string& name, const std::string& text) const {
        const auto path = root() / name;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path, std::ios::binary) << text;
    }

    /// Frame i is grey of 40 i + `offset`, but for a white square that stays.
    void write_video(const std::string& name, std::int64_t frames = 6, int offset = 0,
                     double fps = 10.0) const {
        const auto path = root() / name;
        std::filesystem::create_directories(path.parent_path());
        media::VideoWriter writer(path, kWidth, kHeight, fps, 5);
        for (std::int64_t i = 0; i < frames; ++i) {
            at::Tensor frame = at::full({kHeight, kWidth, 3}, (40 * i + offset) % 200, at::kByte);
            frame.slice(0, 8, 16).slice(1, 8, 16).fill_(255);
            writer.write(frame);
        }
        writer.finish();
    }

    /// `frames` masks with the rectangle [top, bottom) x [left, right) set in each.
    void write_masks(const std::string& folder, std::int64_t frames, std::int64_t top,
                     std::int64_t left, std::int64_t bottom, std::int64_t right) const {
        at::Tensor mask = at::zeros({kHeight, kWidth}, at::kByte);
        mask.slice(0, top, bottom).slice(1, left, right).fill_(255);
        for (std::int64_t i = 0; i < frames; ++i) {
            char name[16];
            std::snprintf(name, sizeof name, "%03d.png", static_cast<int>(i));
            media::write_png(root() / "mask_annotation" / folder / name, mask);
        }
    }

    /// Clip a.mp4: ID 1 left, ID 2 right, "A man lifts a box."; clip b.mp4 has neither masks nor
    /// roles.
    void write_two_clips() const {
        write_video("videos/a.mp4");
        write_video("videos/b.mp4", 6, 13);
        write_masks("a/<id1>", 6, 0, 0, 16, 16);
        write_masks("a/id2", 6, 16, 16, 32, 48);
        write("metadata.jsonl", a_row() + "\n" + R"({"video": "b.mp4", "prompt": "Rain."})" + "\n");
    }

    static std::string a_row() {
        return R"({"video": "a.mp4", "prompt": "A <id1> man lifts a <id2> box.", "interactions": )"
               R"([{"subject": {"phrase": "<id1> man", "id": 1}, "verb": {"phrase": "lifts"}, )"
               R"("object": {"phrase": "box", "id": 2}}]})";
    }

private:
    TempDirectory directory_;
};

}  // namespace matrix::test
