#include "cli/synth/synth.h"

#include "cli/synth/captions.h"
#include "cli/synth/choreography.h"
#include "cli/synth/render.h"
#include "cli/synth/scene.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/signals.h"
#include "matrix/log/progress.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace matrix::synth {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// Padded with zeros, so that names sort as numbers.
std::string numbered(std::int64_t number, std::size_t digits) {
    const std::string text = std::to_string(number);
    return text.size() < digits ? std::string(digits - text.size(), '0') + text : text;
}

/// The folder of an ID's mask track; the angle brackets belong to the layout.
std::string id_folder(std::size_t id) {
    return "<id" + std::to_string(id) + ">";
}

void check_options(const SynthOptions& options) {
    std::vector<std::string> faults;
    const auto demand = [&faults](bool holds, const std::string& fault) {
        if (!holds) {
            faults.push_back("synth: " + fault);
        }
    };
    demand(!options.out.empty(), "no output directory was given");
    demand(options.clips >= 1 && options.clips <= 999999,
           "the number of clips must be from 1 to 999999, not " + std::to_string(options.clips));
    demand(options.frames >= 5 && options.frames <= 10000,
           "a clip has from 5 to 10000 frames, not " + std::to_string(options.frames));
    const auto side_fits = [](std::int64_t side) {
        return side >= 32 && side <= 4096 && side % 2 == 0;
    };
    demand(side_fits(options.height) && side_fits(options.width),
           "height and width must be even and from 32 to 4096, not " +
               std::to_string(options.height) + " x " + std::to_string(options.width));
    demand(options.fps > 0.0 && options.fps <= 240.0,
           "the frame rate must be above 0 and at most 240, not " + std::to_string(options.fps));
    if (!faults.empty()) {
        throw UsageError(faults);
    }
    std::error_code error;
    if (fs::exists(options.out, error) &&
        !(fs::is_directory(options.out, error) && fs::is_empty(options.out, error))) {
        throw RunError(
            options.out.string() +
            " exists and is not an empty directory; choose another --out or remove it first");
    }
}

void write_clip(const SynthOptions& options, const fs::path& root, const std::string& stem,
                const Scene& scene) {
    const Renderer renderer(scene, options.height, options.width);
    media::VideoWriter video(root / "videos" / (stem + ".mp4"), options.width, options.height,
                             options.fps);
    const fs::path masks = root / "mask_annotation" / stem;
    const std::size_t digits = std::max<std::size_t>(3, std::to_string(options.frames - 1).size());
    std::int64_t frame = 0;
    for (const auto& poses :
         choreograph(scene, options.frames, world_of(options.height, options.width))) {
        Picture picture = renderer.draw(poses);
        video.write(
            at::from_blob(picture.rgb.data(), {options.height, options.width, 3}, at::kByte));
        const at::Tensor owner =
            at::from_blob(picture.owner.data(), {options.height, options.width}, at::kByte);
        for (std::size_t id = 1; id <= scene.actors.size(); ++id) {
            const at::Tensor mask =
                owner.eq(static_cast<std::int64_t>(id)).to(at::kByte).mul(255);  // [H, W]
            media::write_png(masks / id_folder(id) / (numbered(frame, digits) + ".png"), mask);
        }
        ++frame;
    }
    video.finish();
}

Json metadata_row(const std::string& stem, const Caption& caption) {
    const auto mention = [](const Mention& who) {
        return Json{{"phrase", who.phrase}, {"id", who.id}};
    };
    Json interactions = Json::array();
    for (const Interaction& interaction : caption.interactions) {
        interactions.push_back({{"subject", mention(interaction.subject)},
                                {"verb", {{"phrase", interaction.verb}}},
                                {"object", mention(interaction.object)}});
    }
    return {{"video", stem + ".mp4"}, {"prompt", caption.prompt}, {"interactions", interactions}};
}

}  // namespace

void synthesize(const SynthOptions& options) {
    check_options(options);
    const World world = world_of(options.height, options.width);
    write_directory_atomically(options.out, [&](const fs::path& root) {
        fs::create_directories(root / "videos");
        log::Progress progress("synth", options.clips);
        std::string metadata;
        for (std::int64_t clip = 0; clip < options.clips; ++clip) {
            if (const auto signal = stop_signal()) {
                throw Stopped{*signal};  // what was made so far goes with the temporary directory
            }
            const std::string stem = numbered(clip + 1, 6);
            const Scene scene = make_scene(options.seed, clip, world);
            for (std::size_t id = 1; id <= scene.actors.size(); ++id) {
                fs::create_directories(root / "mask_annotation" / stem / id_folder(id));
            }
            write_clip(options, root, stem, scene);
            metadata += metadata_row(stem, describe(scene, options.seed, clip)).dump() + "\n";
            progress.update(clip + 1);
        }
        write_file_atomically(root / "metadata.jsonl", metadata);
    });
}

}  // namespace matrix::synth
