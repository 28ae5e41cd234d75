#include <CLI/CLI.hpp>

#include <chrono>
#include <filesystem>

#include "cli/commands.h"
#include "cli/run_config.h"
#include "cli/sample_source.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"
#include "matrix/prepare/prepare.h"

namespace matrix::cli {
namespace {

struct PrepareFlags {
    std::string config;
    std::vector<std::string> assignments;
    bool verify = false;
};

prepare::PrepareOptions options_for(const RunConfig& config, const data_cache::DataConfig& data,
                                    distributed::Communicator& ranks, at::Device device) {
    prepare::PrepareOptions options;
    options.model = config.model.path;
    options.data = data;
    options.dtype = parse_compute_dtype(config.model.dtype, "model.dtype");
    options.device = device;
    options.ranks = &ranks;
    options.nearest_query = config.alignment.spa && config.alignment.spa->query == "nearest";
    return options;
}

void prepare_main(const PrepareFlags& flags) {
    const RunConfig config = read_run_config(flags.config, flags.assignments);
    if (!config.data.cache) {
        throw UsageError("data.cache: null means encoding on the fly, there is nothing to prepare");
    }
    const distributed::Environment environment = distributed::read_environment();
    if (flags.verify && environment.world_size > 1) {
        throw UsageError("--verify is for one process; several were started");
    }
    log::set_rank(environment.rank);
    install_stop_signals();
    const at::Device device = choose_device(config.model.device, environment.local_rank);
    const auto ranks =
        distributed::make_communicator(environment, config.parallel.backend, device,
                                       std::chrono::seconds(config.parallel.timeout_seconds));
    std::vector<data_cache::DataConfig> sets = {config.data};
    if (config.validation.data) {
        sets.push_back(held_out_data(config));
    }
    std::vector<std::string> faults;
    for (const data_cache::DataConfig& data : sets) {
        if (!flags.verify) {
            prepare::prepare(options_for(config, data, *ranks, device));
            continue;
        }
        const std::vector<std::string> found =
            prepare::verify(options_for(config, data, *ranks, device));
        faults.insert(faults.end(), found.begin(), found.end());
        log::info(*data.cache + ": " +
                  (found.empty() ? "valid" : std::to_string(found.size()) + " faults"));
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
}

}  // namespace

void add_prepare_command(CLI::App& app, Action& action) {
    auto flags = std::make_shared<PrepareFlags>();
    CLI::App* command =
        app.add_subcommand("prepare", "Encode a data set into the cache that train reads");
    command->add_option("--config", flags->config, "The run, one JSON file")->required();
    command->add_option("--set", flags->assignments, "Set one field: path=value (repeatable)")
        ->take_all()
        ->allow_extra_args(false);
    command->add_flag("--verify", flags->verify,
                      "Read sources and cache again and compare, changing nothing");
    command->footer("Example:\n  matrix prepare --config run.json");
    add_verbosity_flags(*command);
    command->callback([flags, &action] { action = [flags] { prepare_main(*flags); }; });
}

}  // namespace matrix::cli
