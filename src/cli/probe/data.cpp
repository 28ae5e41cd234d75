#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "cli/probe/parts.h"
#include "cli/run_config.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/data_source/manifest.h"
#include "matrix/data_source/sample.h"
#include "matrix/text/t5_tokenizer.h"

namespace matrix::cli::probe {

Result run_data(const Request& request) {
    // A file that cannot be read, or is no JSON, is damaged: RunError. What it says wrong is usage.
    static_cast<void>(parse_json(read_text_file(request.config), request.config));
    const RunConfig config = read_run_config(request.config, {});
    const data_source::Manifest manifest = data_source::read_manifest(config.data.path);
    const auto rows = static_cast<std::int64_t>(manifest.rows.size());
    if (request.index < 0 || request.index >= rows) {
        throw UsageError("--index: there is no row " + std::to_string(request.index) + " in " +
                         manifest.file.string() + ", which has " + std::to_string(rows));
    }
    const text::T5Tokenizer tokenizer(std::filesystem::path(config.model.path) / "tokenizer");
    const bool nearest_query = config.alignment.spa && config.alignment.spa->query == "nearest";
    const data_source::RawSample sample =
        data_source::load_sample(manifest.rows[static_cast<std::size_t>(request.index)],
                                 config.data, tokenizer, nearest_query);
    Result result;
    result.outputs = {{"video", sample.video},
                      {"input_ids", sample.input_ids},
                      {"token_mask", sample.token_mask},
                      {"masks", sample.masks},
                      {"query_mask", sample.query_mask}};
    if (sample.id_map.defined()) {
        result.outputs["id_map"] = sample.id_map;
    }
    return result;
}

}  // namespace matrix::cli::probe
