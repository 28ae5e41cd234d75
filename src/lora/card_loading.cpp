#include "lora/card_loading.h"

#include <algorithm>

#include "lora/names.h"
#include "matrix/lora/base_model.h"

namespace matrix::lora {
namespace {

bool has_file(const CardFacts& facts, const char* name) {
    return std::find(facts.files.begin(), facts.files.end(), name) != facts.files.end();
}

std::string base_to_load(const CardFacts& facts) {
    const std::string name = find_base_model(facts.info.base).hub_name;
    return name.empty() ? "path/to/the/base" : name;
}

std::string code(const std::string& text) {
    return "```python\n" + text + "```\n";
}

const char* pipeline_class(const CardFacts& facts) {
    return find_base_model(facts.info.base).text_to_video ? "CogVideoXPipeline"
                                                          : "CogVideoXImageToVideoPipeline";
}

/// Python that puts `weight` and a bias into the pipeline as its input projection, in place of
/// `old`.
std::string replace_projection(const CardFacts& facts, const std::string& bias) {
    const std::string made =
        facts.linear_projection
            ? "columns = old.in_features // pipe.transformer.config.in_channels  # of a channel\n"
              "proj = torch.nn.Linear(weight.shape[1], len(weight))\n"
            : "proj = torch.nn.Conv2d(weight.shape[1], len(weight), old.kernel_size, old.stride)\n";
    return made + "proj.weight.data, proj.bias.data = weight, " + bias +
           "\n"
           "pipe.transformer.patch_embed.proj = proj.to(old.weight.device, old.weight.dtype)\n"
           "pipe.transformer.register_to_config(in_channels=weight.shape[1]" +
           (facts.linear_projection ? " // columns" : "") + ")\n";
}

std::string open_pipeline(const CardFacts& facts) {
    return "import torch\n"
           "from diffusers import " +
           std::string(pipeline_class(facts)) +
           "\nfrom safetensors.torch import load_file\n\n"
           "pipe = " +
           pipeline_class(facts) + ".from_pretrained(\"" + base_to_load(facts) +
           "\", torch_dtype=torch.bfloat16)\n";
}

/// Python that puts the trained input projection into `pipe.transformer`, for the files there are.
/// `lora` is a dictionary with the LoRA of the file under diffusers' names.
std::string put_projection(const CardFacts& facts) {
    const bool whole = has_file(facts, kProjectionFile);
    const bool apart = has_file(facts, kProjectionLoraFile);
    const bool columns = has_file(facts, kIdMapFile);
    if (!whole && !apart && !columns) {
        return "";
    }
    std::string text =
        "old = pipe.transformer.patch_embed.proj\n"
        "weight, bias = old.weight.data.float(), old.bias.data.float()\n";
    if (whole) {
        text += std::string("whole = load_file(\"") + kProjectionFile +
                "\")\n"
                "weight, bias = whole[\"patch_embed.proj.weight\"], "
                "whole[\"patch_embed.proj.bias\"]\n";
    }
    if (apart || columns) {
        text += "key = \"transformer.patch_embed.proj.lora_{}.weight\"\n";
        if (apart) {
            text += std::string("lora = load_file(\"") + kProjectionLoraFile +
                    "\")\n"
                    "a, b = lora[key.format(\"A\")], lora[key.format(\"B\")]\n";
        } else {
            text += std::string("a = torch.cat([lora.pop(key.format(\"A\")), load_file(\"") +
                    kIdMapFile +
                    "\")[key.format(\"A\")]], 1)\n"
                    "b = lora.pop(key.format(\"B\"))\n";
        }
        text +=
            "change = (b.float().flatten(1) @ a.float().flatten(1)).view(len(b), *a.shape[1:])\n"
            "change[:, : weight.shape[1]] += weight\n"
            "weight = change\n";
    }
    return text + replace_projection(facts, "bias");
}

std::string diffusers_lines(const CardFacts& facts) {
    std::string text = open_pipeline(facts);
    if (!has_file(facts, kStockFile)) {
        return code(text + put_projection(facts));
    }
    if (!has_file(facts, kIdMapFile)) {
        return code(text + put_projection(facts) + "pipe.load_lora_weights(\".\", weight_name=\"" +
                    kStockFile + "\")\n");
    }
    text += std::string("lora = load_file(\"") + kStockFile + "\")\n" + put_projection(facts);
    return code(text + "if lora:\n    pipe.load_lora_weights(lora)\n");
}

std::string peft_lines(const CardFacts& facts) {
    std::string text = open_pipeline(facts);
    if (!has_file(facts, kPeftFile)) {
        return code(text + put_projection(facts));
    }
    const std::string load =
        "from peft import PeftModel\n"
        "pipe.transformer = PeftModel.from_pretrained(pipe.transformer, "
        "\".\").merge_and_unload()\n";
    if (!has_file(facts, kIdMapFile)) {
        return code(text + put_projection(facts) + load);
    }
    // peft adds the columns of the file; those of the ID map follow.
    text += load + "b = load_file(\"" + std::string(kPeftFile) +
            "\")[\"base_model.model.patch_embed.proj.lora_B.weight\"].float()\n"
            "a = load_file(\"" +
            kIdMapFile +
            "\")[\"transformer.patch_embed.proj.lora_A.weight\"].float()\n"
            "old = pipe.transformer.patch_embed.proj\n"
            "extra = (b.flatten(1) @ a.flatten(1)).view(len(b), *a.shape[1:])\n"
            "weight = torch.cat([old.weight.data.float(), extra], 1)\n";
    return code(text + replace_projection(facts, "old.bias.data"));
}

std::string kohya_lines(const CardFacts& facts) {
    std::string text;
    if (has_file(facts, kKohyaFile)) {
        text +=
            std::string("* ComfyUI-CogVideoXWrapper: put `") + kKohyaFile +
            "` into `ComfyUI/models/CogVideo/loras` and choose it in the node CogVideo LoraSelect, "
            "strength 1.0.\n"
            "* CogVideoX-Fun: `merge_lora(pipeline, \"" +
            kKohyaFile + "\", 1.0)`.\n";
    }
    for (const char* name : {kProjectionLoraFile, kProjectionFile, kIdMapFile}) {
        if (has_file(facts, name)) {
            text += std::string("* Neither reads `") + name +
                    "`, which belongs to the result: in these tools the input projection is the "
                    "base's. With the `merged` format it is in the model.\n";
        }
    }
    return text;
}

std::string comfyui_lines(const CardFacts& facts) {
    std::string text;
    if (has_file(facts, kComfyuiFile)) {
        text +=
            std::string("Put `") + kComfyuiFile +
            "` into `ComfyUI/models/loras`, and load it on ComfyUI's own CogVideoX model (not the "
            "wrapper's) with the node Load LoRA (Model Only), strength 1.0.\n";
    }
    if (has_file(facts, kProjectionFile)) {
        text +=
            "The file sets the input projection whole, whatever the strength: strength below 1 "
            "weakens the attention's LoRA alone.\n";
    }
    return text;
}

std::string merged_lines(const CardFacts& facts) {
    const std::string pipeline = pipeline_class(facts);
    return code(
        "import torch\n"
        "from diffusers import " +
        pipeline +
        ", CogVideoXTransformer3DModel\n\n"
        "transformer = CogVideoXTransformer3DModel.from_pretrained(\".\", "
        "torch_dtype=torch.bfloat16)\n"
        "pipe = " +
        pipeline + ".from_pretrained(\"" + base_to_load(facts) +
        "\", transformer=transformer, torch_dtype=torch.bfloat16)\n");
}

std::string id_map_lines(const CardFacts& facts) {
    if (!facts.info.id_map) {
        return "";
    }
    std::string text = "\nThis model was trained with an ID map: its input has " +
                       std::to_string(facts.info.in_channels) +
                       " channels, the last third of them the latents of the map. ";
    if (facts.format == "comfyui") {
        return text +
               "ComfyUI has no such input. What works there is the model without its map, and only "
               "as far as training left the map out at times (`data.id_map_dropout`).\n";
    }
    if (facts.format == "kohya") {
        return text +
               "The loaders of this file have no such input. What works there is the LoRA of the "
               "attention on the base's own projection, which is not the model that was trained.\n";
    }
    text +=
        facts.linear_projection
            ? "The stock pipelines hand it 32 and fail, and there is no pipeline for the map of "
              "a model with temporal patches."
            : "The stock pipelines hand it 32 and fail; the class `IdMapPipeline` of "
              "matrix.cpp's page on file formats adds the map, and zeros where there is none.";
    text +=
        " Without a map the result is as good as training without it was "
        "(`data.id_map_dropout`).";
    return text + (facts.format == "merged"
                       ? "\n"
                       : " On an unchanged 32-channel base the LoRA of the attention loads alone, "
                         "but that is not the model that was trained.\n");
}

}  // namespace

std::string loading_section(const CardFacts& facts) {
    std::string lines;
    if (facts.format == "merged") {
        lines = merged_lines(facts);
    } else if (facts.format == "peft") {
        lines = peft_lines(facts);
    } else if (facts.format == "kohya") {
        lines = kohya_lines(facts);
    } else if (facts.format == "comfyui") {
        lines = comfyui_lines(facts);
    } else {
        lines = diffusers_lines(facts);
    }
    const bool python = lines.starts_with("```");
    std::string text = "## Loading\n\n";
    if (python) {
        text += "In this directory, with diffusers";
        text += facts.format == "peft" ? " and peft:\n\n" : ":\n\n";
    }
    text += lines + id_map_lines(facts);
    if (facts.format != "merged") {
        text +=
            "\nThe trained strength is in the files: alpha equals the rank, so the right scale is "
            "1.\n`matrix` reads the whole directory: `--adapter DIR`.\n";
    }
    return text;
}

}  // namespace matrix::lora
