#include <ATen/core/Tensor.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "eval/boxes.h"
#include "eval/chat.h"
#include "eval/replies.h"
#include "eval/result_file.h"
#include "eval/sound_scenarios.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/media/image.h"

namespace matrix::eval {

namespace fs = std::filesystem;

namespace {

constexpr int kJpegQuality = 85;
constexpr std::int64_t kMaxOutputTokens = 400;

constexpr std::string_view kInstruction =
    R"text(You match crops of an image to a description. You get one object's class and appearance, then several crops of one image, each preceded by its index and label. Choose the single crop that shows the described object best, or -1 if none of them fits the description.

Reply with one JSON object: {"index": the crop's index or -1, "confidence": 0 to 1, "reason": "a few words"}.)text";

Form verify_form() {
    return {"verify", kInstruction,
            object_schema({{"index", {{"type", "integer"}}},
                           {"confidence", {{"type", "number"}}},
                           {"reason", {{"type", "string"}}}}),
            60};
}

std::string description(const Entity& entity) {
    return "Class: " + entity.name + "\nAppearance: " + entity.appearance;
}

struct Sample {
    std::string data_type;
    std::size_t index = 0;
    Scenario scenario;
    std::vector<DetectedBox> boxes;
};

/// Indices of the boxes that may be this object: of its class, and not in `taken`.
std::vector<std::size_t> candidates(const Sample& sample, const Entity& entity,
                                    const std::vector<std::size_t>& taken) {
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < sample.boxes.size(); ++i) {
        if (sample.boxes[i].label == entity.name &&
            std::find(taken.begin(), taken.end(), i) == taken.end()) {
            found.push_back(i);
        }
    }
    return found;
}

CropChoice choose(const Asking& asking, const at::Tensor& image, const Sample& sample,
                  const Entity& entity, const std::vector<std::size_t>& offered) {
    std::vector<Json> parts = {text_part(description(entity))};
    for (std::size_t i = 0; i < offered.size(); ++i) {
        const DetectedBox& box = sample.boxes[offered[i]];
        parts.push_back(text_part("Crop " + std::to_string(i) + " (" + box.label + "):"));
        parts.push_back(
            picture_part(asking.client->cache().add_jpeg(padded_crop(image, box), kJpegQuality)));
    }
    Json request = chat_request(verify_form(), asking, std::move(parts));
    request["temperature"] = 0;
    request["max_completion_tokens"] = kMaxOutputTokens;
    CropChoice choice;
    asking.client->ask(request, [&](const Json& content) {
        choice = read_crop_choice(content, static_cast<std::int64_t>(offered.size()));
    });
    return choice;
}

/// `match` of an object: global = among the image's boxes, local = among those of its class.
Json match_of(const Sample& sample, const Entity& entity, std::optional<std::size_t> global,
              const CropChoice& choice) {
    if (!global) {
        return {{"best_global_idx", -1},
                {"best_local_idx", -1},
                {"obj_id", -1},
                {"confidence", choice.confidence},
                {"rationale", choice.reason}};
    }
    const DetectedBox& box = sample.boxes[*global];
    const std::vector<std::size_t> of_class = candidates(sample, entity, {});
    const auto local = std::find(of_class.begin(), of_class.end(), *global) - of_class.begin();
    return {{"best_global_idx", *global},      {"best_local_idx", local},
            {"obj_id", box.object_id},         {"bbox", box.corners},
            {"confidence", choice.confidence}, {"rationale", choice.reason}};
}

Json verify(const Asking& asking, const Sample& sample) {
    const fs::path data = asking.layout.data(sample.data_type);
    const std::string picture = sample.scenario.id + ".png";
    const at::Tensor image = media::read_image(data / "images" / picture);
    at::Tensor preview = image;
    std::vector<std::size_t> taken;
    Json objects = Json::array();
    for (const Entity& entity : sample.scenario.entities) {
        const auto offered =
            candidates(sample, entity, asking.shared_boxes ? std::vector<std::size_t>{} : taken);
        CropChoice choice{-1, 0.0, "no box of this class"};
        std::optional<std::size_t> global;
        if (!offered.empty()) {
            choice = choose(asking, image, sample, entity, offered);
        }
        if (choice.index >= 0) {
            global = offered[static_cast<std::size_t>(choice.index)];
            taken.push_back(*global);
            preview = with_box(preview, sample.boxes[*global], objects.size());
        }
        objects.push_back({{"obj_idx", objects.size()},
                           {"class", entity.name},
                           {"appearance", entity.appearance},
                           {"match", match_of(sample, entity, global, choice)}});
    }
    media::write_png(data / "verify_vis" / picture, preview);
    return {{"sample_idx", sample.index},
            {"image_path", "images/" + picture},
            {"vis_path", "verify_vis/" + picture},
            {"model_used", asking.vlm},
            {"objects", std::move(objects)}};
}

/// At most: a box that is taken is not shown again.
Cost cost_of_sample(const Sample& sample) {
    Cost cost;
    for (const Entity& entity : sample.scenario.entities) {
        const auto offered = candidates(sample, entity, {});
        if (!offered.empty()) {
            cost += cost_of(verify_form(), description(entity),
                            static_cast<std::int64_t>(offered.size()), 512, 512);
        }
    }
    return cost;
}

std::string inputs_of(const Asking& asking, const Sample& sample) {
    Json inputs = {
        hash_file(asking.layout.data(sample.data_type) / "images" / (sample.scenario.id + ".png")),
        asking.vlm, asking.seed, asking.shared_boxes, kInstruction};
    for (const Entity& entity : sample.scenario.entities) {
        inputs.push_back(description(entity));
    }
    for (const DetectedBox& box : sample.boxes) {
        inputs.push_back({box.label, box.corners});
    }
    return hash_text(inputs.dump());
}

void plan_sample(const Asking& asking, Sample sample, const std::shared_ptr<ResultFile>& file,
                 Plan& plan) {
    const std::string id = sample.scenario.id;
    const std::string inputs = inputs_of(asking, sample);
    const Json* entry = file->find(id);
    if (entry != nullptr && (!entry->contains("inputs") || entry->at("inputs") == inputs)) {
        ++plan.kept;
        return;
    }
    const LeftOut place{"", sample.data_type, id, ""};
    const Cost cost = cost_of_sample(sample);
    plan.tasks.push_back({place, cost, [asking, sample = std::move(sample), file, inputs, id] {
                              file->erase(id);
                              Json made = verify(asking, sample);
                              made["inputs"] = inputs;
                              file->put(id, std::move(made));
                          }});
}

void plan_type(const Asking& asking, const std::string& type, Plan& plan) {
    const std::vector<Scenario> scenarios =
        read_sound_scenarios(asking.layout, type, "", plan.left_out);
    const auto boxes = read_boxes(asking.layout.data(type) / "bbox_meta.json");
    const auto file = std::make_shared<ResultFile>(asking.layout.data(type) / "verify_results.json",
                                                   "sample_idx");
    for (const Scenario& scenario : scenarios) {
        const auto found = boxes.find(scenario.id);
        try {
            if (found == boxes.end()) {
                throw RunError("bbox_meta.json has no entry for it");
            }
            if (!found->second.fault.empty()) {
                throw RunError(found->second.fault);
            }
            const std::size_t index = std::stoul(scenario.id);
            plan_sample(asking, {type, index, scenario, found->second.boxes}, file, plan);
        } catch (const RunError& error) {
            plan.left_out.push_back({"", type, scenario.id, error.what()});
        }
    }
}

}  // namespace

Plan plan_verify(const Asking& asking) {
    Plan plan{"verify", {}, 0, {}};
    for (const std::string& type : asking.selection.data_types) {
        try {
            plan_type(asking, type, plan);
        } catch (const RunError& error) {
            plan.left_out.push_back({"", type, "", error.what()});
        }
    }
    return plan;
}

}  // namespace matrix::eval
