#include "cli/check/report.h"
#include "matrix/data_cache/entries.h"
#include "matrix/data_cache/index.h"

namespace matrix::cli::check {

Report check_cache(const std::filesystem::path& cache) {
    Report report;
    report.facts["path"] = cache.string();
    report.collect([&] {
        const data_cache::CacheIndex index = data_cache::CacheIndex::load(cache);
        const data_cache::DataConfig& c = index.config;
        report.lines.push_back(std::to_string(index.clips.size()) + " clips of " +
                               std::to_string(c.frames) + " frames of " + std::to_string(c.width) +
                               " x " + std::to_string(c.height));
        report.facts.update({{"clips", index.clips.size()},
                             {"frames", c.frames},
                             {"height", c.height},
                             {"width", c.width}});
        report.faults = data_cache::verify_cache(cache);
    });
    return report;
}

}  // namespace matrix::cli::check
