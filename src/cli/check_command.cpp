#include <CLI/CLI.hpp>

#include <iostream>

#include "cli/check/report.h"
#include "cli/commands.h"
#include "cli/run_config.h"
#include "matrix/core/error.h"
#include "matrix/core/signals.h"

namespace matrix::cli {
namespace {

using check::Report;

struct CheckFlags {
    std::string path;
    std::string config;
    std::string overlays;
    bool json = false;
    bool schema = false;
    bool reference = false;
};

void finish(const Report& report, bool json) {
    report.print(json);
    if (!report.faults.empty()) {
        throw RunError(report.faults);
    }
}

/// The JSON Schema of a run file, with the key by which an editor finds it.
nlohmann::json run_schema() {
    RunConfig config;
    nlohmann::json schema = fields(config).schema();
    schema["title"] = "A run of matrix train";
    schema["properties"]["$schema"] = {{"type", "string"},
                                       {"description", "Where an editor finds this schema."}};
    return schema;
}

void config_main(const CheckFlags& flags) {
    if (flags.schema) {
        std::cout << run_schema().dump(2) << '\n';
    } else if (flags.reference) {
        RunConfig config;
        std::cout << fields(config).reference();
    } else if (flags.path.empty()) {
        throw UsageError("check config: name a run file, or ask for --schema or --reference");
    } else {
        const Report report = check::check_config(flags.path);
        report.print(flags.json);
        if (!report.faults.empty()) {
            throw UsageError(report.faults);
        }
    }
}

/// One of the things that can be checked: a subcommand with a path.
CLI::App* add_subject(CLI::App& command, const std::string& name, const std::string& description,
                      const std::shared_ptr<CheckFlags>& flags, const std::string& path_text) {
    CLI::App* subject = command.add_subcommand(name, description);
    CLI::Option* path = subject->add_option("PATH", flags->path, path_text)->type_name("");
    path->required(name != "config");
    subject->add_flag("--json", flags->json, "Print what was found as JSON");
    add_verbosity_flags(*subject);
    return subject;
}

void add_model(CLI::App& command, Action& action) {
    auto flags = std::make_shared<CheckFlags>();
    CLI::App* subject = add_subject(
        command, "model", "Configurations, every tensor's name, shape and kind, the tokenizer",
        flags, "A Hugging Face directory of a CogVideoX model");
    subject->footer("Example:\n  matrix check model models/CogVideoX-5b-I2V");
    subject->callback([flags, &action] {
        action = [flags] { finish(check::check_model(flags->path), flags->json); };
    });
}

#ifdef MATRIX_WITH_ENCODERS
void add_data(CLI::App& command, Action& action) {
    auto flags = std::make_shared<CheckFlags>();
    CLI::App* subject =
        add_subject(command, "data", "Metadata, phrases, videos and masks, all decoded", flags,
                    "Directory of a data set");
    subject->add_option(
        "--config", flags->config,
        "Look at what this run would read; without it, at all frames of every clip");
    subject->add_option("--overlays", flags->overlays,
                        "Also draw a sheet of each sound clip in this directory: frames, outlined "
                        "masks, roles");
    subject->footer("Example:\n  matrix check data data/train --config run.json");
    subject->callback([flags, &action] {
        action = [flags] {
            install_stop_signals();
            finish(check::check_data(flags->path, flags->config, flags->overlays), flags->json);
        };
    });
}
#endif

void add_config(CLI::App& command, Action& action) {
    auto flags = std::make_shared<CheckFlags>();
    CLI::App* subject =
        add_subject(command, "config", "Every field of a run, and its blocks against the model's",
                    flags, "A run, one JSON file");
    CLI::Option* schema =
        subject->add_flag("--schema", flags->schema, "Print the JSON Schema of a run file");
    CLI::Option* reference = subject->add_flag("--reference", flags->reference,
                                               "Print the table of all fields as Markdown");
    schema->excludes(reference)->excludes(subject->get_option("PATH"));
    reference->excludes(subject->get_option("PATH"));
    subject->footer("Example:\n  matrix check config run.json");
    subject->callback([flags, &action] { action = [flags] { config_main(*flags); }; });
}

void add_cache(CLI::App& command, Action& action) {
    auto flags = std::make_shared<CheckFlags>();
    CLI::App* subject = add_subject(command, "cache", "Every byte of a prepared cache", flags,
                                    "Directory of a cache");
    subject->footer("Example:\n  matrix check cache cache/train");
    subject->callback([flags, &action] {
        action = [flags] { finish(check::check_cache(flags->path), flags->json); };
    });
}

}  // namespace

void add_check_command(CLI::App& app, Action& action) {
    CLI::App* command =
        app.add_subcommand("check", "Find every fault of a model, data set, run file or cache");
    command->require_subcommand(1);
    command->footer("Example:\n  matrix check model models/CogVideoX-5b-I2V");
    add_model(*command, action);
#ifdef MATRIX_WITH_ENCODERS
    add_data(*command, action);
#endif
    add_config(*command, action);
    add_cache(*command, action);
}

}  // namespace matrix::cli
