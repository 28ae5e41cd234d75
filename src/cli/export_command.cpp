#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/export/merged.h"
#include "cli/export/output_check.h"
#include "cli/export/run_of.h"
#include "matrix/core/error.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"
#include "matrix/lora/export.h"
#include "matrix/lora/model_card.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMerged = "merged";

struct ExportFlags {
    std::string checkpoint;
    std::string format;
    std::string out;
    std::string dtype;
    std::string model;
    bool json = false;
};

std::string one_of(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) {
        text += (text.empty() ? "" : ", ") + word;
    }
    return text;
}

std::vector<std::string> all_formats() {
    std::vector<std::string> names = lora::format_names();
    names.emplace_back(kMerged);
    return names;
}

std::optional<at::ScalarType> parse_dtype(const std::string& word) {
    static const std::map<std::string, at::ScalarType> known = {
        {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}};
    if (word.empty()) {
        return std::nullopt;
    }
    const auto found = known.find(word);
    if (found == known.end()) {
        throw UsageError("--dtype: \"" + word +
                         "\" is not a dtype this program exports (float32, bfloat16, float16)");
    }
    return found->second;
}

/// The base to compare and merge with: the flag's, else the one that the adapter was trained on if
/// it is still there.
std::optional<fs::path> base_of(const ExportFlags& flags, const lora::Adapter& adapter) {
    const auto is_model = [](const fs::path& path) {
        std::error_code fault;
        return fs::exists(path / "transformer" / "config.json", fault);
    };
    if (!flags.model.empty()) {
        if (!is_model(flags.model)) {
            throw RunError("--model: " + flags.model +
                           ": no transformer/config.json in it; name the Hugging Face directory of "
                           "a CogVideoX model");
        }
        return flags.model;
    }
    if (!adapter.info.base.empty() && is_model(adapter.info.base)) {
        return adapter.info.base;
    }
    if (flags.format == kMerged) {
        throw UsageError("--model: merged needs the base model" +
                         (adapter.info.base.empty()
                              ? std::string(", which the adapter does not name")
                              : ", and " + adapter.info.base + " is not there") +
                         "; name its directory");
    }
    return std::nullopt;
}

/// Paths of the files of a directory but the card, sorted.
std::vector<std::string> files_in(const fs::path& directory) {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(directory)) {
        if (entry.path().filename() != "README.md") {
            files.push_back(entry.path().string());
        }
    }
    std::sort(files.begin(), files.end());
    return files;
}

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2g", value);
    return text;
}

void print(const ExportFlags& flags, const lora::ExportReport& report,
           const std::optional<double>& output) {
    const std::vector<std::string> files = files_in(flags.out);
    const std::string card = (fs::path(flags.out) / "README.md").string();
    // diffusers can be given the sidecars by the lines of the card: no warning.
    const bool warn = flags.format != "diffusers";
    for (const std::string& note : report.notes) {
        if (warn) {
            log::warning(note);
        } else if (!flags.json) {
            std::cout << "note: " << note << '\n';
        }
    }
    if (flags.json) {
        nlohmann::json result = {{"format", flags.format},
                                 {"out", flags.out},
                                 {"files", files},
                                 {"card", card},
                                 {"notes", report.notes},
                                 {"largest_difference", report.largest_difference},
                                 {"relative_difference", report.relative_difference},
                                 {"output_difference", nullptr}};
        if (output) {
            result["output_difference"] = *output;
        }
        std::cout << result.dump(2) << '\n';
        return;
    }
    for (const std::string& file : files) {
        std::cout << "wrote " << file << '\n';
    }
    std::cout << "wrote " << card << '\n';
    std::cout << "read back; largest difference of "
              << (flags.format == kMerged ? "a merged weight: " : "a weight's change: ")
              << report.largest_difference << " (" << number(report.relative_difference)
              << " of its largest value)\n";
    if (output) {
        std::cout << "transformer output on a fixed input, trained against read back: relative "
                     "error "
                  << number(*output) << '\n';
    } else {
        std::cout
            << "no base model for it at hand: only the weights' change was compared (--model DIR "
               "compares the output too)\n";
    }
}

lora::CardFacts card_facts(const ExportFlags& flags, const lora::Adapter& adapter) {
    lora::CardFacts facts = lora::card_facts(adapter);
    const RunOfAdapter run = run_of(flags.checkpoint);
    facts.format = flags.format;
    facts.run_config = run.config;
    facts.steps = run.steps;
    if (!flags.model.empty()) {
        facts.info.base = fs::absolute(flags.model).lexically_normal().string();
    }
    return facts;
}

/// Nothing where the base that the adapter names is another model by now.
std::optional<OutputCheck> output_check(const ExportFlags& flags,
                                        const std::optional<fs::path>& base,
                                        const lora::Adapter& adapter) {
    std::optional<OutputCheck> check;
    if (!base) {
        return check;
    }
    try {
        check.emplace(*base, adapter);
    } catch (const BaseDoesNotFit& fault) {
        if (!flags.model.empty() || flags.format == kMerged) {
            throw;
        }
        log::warning(fault.faults().front());
    }
    return check;
}

class Exporter {
public:
    Exporter(const ExportFlags& flags, lora::Adapter adapter, std::optional<at::ScalarType> dtype)
        : flags_(flags), adapter_(std::move(adapter)), dtype_(dtype) {}

    void to_format(lora::Format format) {
        lora::ExportOptions options;
        options.format = format;
        options.dtype = dtype_.value_or(at::kFloat);
        lora::check_export(adapter_, flags_.out, options);
        std::optional<OutputCheck> check =
            output_check(flags_, base_of(flags_, adapter_), adapter_);
        lora::CardFacts facts = card_facts(flags_, adapter_);
        options.card = [&](const std::vector<std::string>& files) {
            facts.files = files;
            return lora::model_card(facts);
        };
        if (check) {
            options.inspect = [&](const lora::Adapter& read) {
                judge(check->of_adapter(read), check->tolerance(options.dtype));
            };
        }
        const lora::ExportReport report = lora::export_adapter(adapter_, flags_.out, options);
        print(flags_, report, output_);
    }

    void to_merged() {
        const std::optional<fs::path> base = base_of(flags_, adapter_);
        check_free(flags_.out);
        const std::optional<OutputCheck> check = output_check(flags_, base, adapter_);
        const at::ScalarType written = dtype_ ? *dtype_ : coarsest_dtype(*base / "transformer");
        const auto inspect = [&](const fs::path& directory) {
            judge(check->of_transformer(directory), check->tolerance(written));
        };
        const lora::ExportReport report =
            export_merged(adapter_, flags_.out,
                          {*base, check->in_channels(), dtype_,
                           lora::model_card(card_facts(flags_, adapter_)), inspect});
        print(flags_, report, output_);
    }

private:
    void judge(double error, double tolerance) {
        if (const auto signal = stop_signal()) {
            throw Stopped{*signal};
        }
        output_ = error;
        require_output(error, tolerance, flags_.out);
    }

    const ExportFlags& flags_;
    lora::Adapter adapter_;
    std::optional<at::ScalarType> dtype_;
    std::optional<double> output_;
};

void export_main(const ExportFlags& flags) {
    const std::optional<lora::Format> format = lora::find_format(flags.format);
    if (!format && flags.format != kMerged) {
        throw UsageError("--format: \"" + flags.format +
                         "\" is not a format this program writes (" + one_of(all_formats()) + ")");
    }
    const std::optional<at::ScalarType> dtype = parse_dtype(flags.dtype);
    install_stop_signals();
    Exporter exporter(flags, lora::read_adapter(flags.checkpoint), dtype);
    if (format) {
        exporter.to_format(*format);
    } else {
        exporter.to_merged();
    }
}

}  // namespace

void add_export_command(CLI::App& app, Action& action) {
    auto flags = std::make_shared<ExportFlags>();
    CLI::App* command =
        app.add_subcommand("export", "Write what was trained in the format of an inference tool");
    command
        ->add_option("--checkpoint", flags->checkpoint,
                     "A checkpoint of a run, or any adapter this program reads")
        ->required();
    command->add_option("--format", flags->format, one_of(all_formats()))->required();
    command
        ->add_option("--out", flags->out,
                     "Directory to create; an earlier export of an adapter is replaced")
        ->required();
    command->add_option("--dtype", flags->dtype,
                        "float32, bfloat16, float16; without it float32, of merged the base's");
    command->add_option("--model", flags->model,
                        "The base model's directory, if not the one it was trained on");
    command->add_flag("--json", flags->json, "Print the result as JSON");
    command->footer(
        "Example:\n  matrix export --checkpoint runs/a/checkpoints/step-00004000 --format "
        "diffusers --out adapters/a");
    add_verbosity_flags(*command);
    command->callback([flags, &action] { action = [flags] { export_main(*flags); }; });
}

}  // namespace matrix::cli
