#include "cli/analyze/settings.h"

#include "matrix/core/error.h"
#include "matrix/pipeline/video_size.h"

namespace matrix::cli::analyze {

data_cache::DataConfig data_config(const Settings& settings,
                                   const pipeline::VideoPipeline& pipeline) {
    const pipeline::VideoSize usual = pipeline::default_size(pipeline.rules());
    const pipeline::VideoSize size = {settings.frames.value_or(usual.num_frames),
                                      settings.height.value_or(usual.height_px),
                                      settings.width.value_or(usual.width_px)};
    if (std::vector<std::string> faults = pipeline::check_size(size, pipeline.rules());
        !faults.empty()) {
        throw UsageError(std::move(faults));
    }
    data_cache::DataConfig data;
    data.path = settings.data;
    data.frames = size.num_frames;
    data.height = size.height_px;
    data.width = size.width_px;
    data.cache.reset();
    data.id_map = pipeline.takes_id_map();
    return data;
}

}  // namespace matrix::cli::analyze
