#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "cli/probe/parts.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/models/t5.h"
#include "matrix/tensor_io/weights.h"
#include "matrix/text/t5_tokenizer.h"

namespace matrix::cli::probe {
namespace {

std::vector<std::string> read_prompts(const Request& request) {
    if (request.prompt.has_value() == request.prompts.has_value()) {
        throw UsageError(request.prompt ? "--prompts: excludes --prompt"
                                        : "--prompt or --prompts is required");
    }
    if (request.prompt) {
        return {*request.prompt};
    }
    const nlohmann::json json = parse_json(read_text_file(*request.prompts), *request.prompts);
    if (!json.is_array()) {
        throw RunError(*request.prompts + ": expected a JSON array of strings");
    }
    std::vector<std::string> prompts;
    for (const nlohmann::json& item : json) {
        if (!item.is_string()) {
            throw RunError(*request.prompts + ": entry " + std::to_string(prompts.size()) +
                           " is not a string");
        }
        prompts.push_back(item.get<std::string>());
    }
    return prompts;
}

}  // namespace

Result run_tokenizer(const Request& request) {
    const std::vector<std::string> prompts = read_prompts(request);
    Result result;
    result.outputs["input_ids"] =
        text::T5Tokenizer(request.component("tokenizer")).input_ids(prompts);  // [n, 226]
    return result;
}

Result run_text(const Request& request) {
    Result result = run_tokenizer(request);
    const std::filesystem::path directory = request.component("text_encoder");
    const auto config = models::T5Config::from_file(directory / "config.json");
    tensor_io::FileWeights weights(directory, "model", request.dtype(), request.device());
    const models::T5Encoder encoder(config, weights);
    result.outputs["last_hidden_state"] =
        encoder.forward(result.outputs.at("input_ids"));  // [n, 226, d_model]
    return result;
}

}  // namespace matrix::cli::probe
