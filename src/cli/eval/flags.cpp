#include "cli/eval/flags.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdlib>

#include "cli/commands.h"
#include "matrix/core/error.h"
#include "matrix/log/log.h"

namespace matrix::cli::eval {
namespace {

/// Whatever goes into a request is JSON.
const CLI::Validator kUtf8(
    [](const std::string& text) -> std::string {
        try {
            (void)nlohmann::json(text).dump();
            return "";
        } catch (const nlohmann::json::exception&) {
            return "the name is no UTF-8";
        }
    },
    "");

}  // namespace

void DataFlags::add(CLI::App& command, bool with_models) {
    command
        .add_option("--root", root, "Directory with EVAL_DATA, OUTPUTS and what is made of them")
        ->required();
    if (with_models) {
        command
            .add_option("--model", wanted.models, "Only this model; may be repeated (default: all)")
            ->type_size(1)
            ->allow_extra_args(false);
    }
    command
        .add_option("--data-type", wanted.data_types,
                    "Only this data type; may be repeated (default: all)")
        ->type_size(1)
        ->allow_extra_args(false);
    add_verbosity_flags(command);
}

void AskingFlags::add(CLI::App& command) {
    command.add_option("--api-base", api_base,
                       "Address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1; "
                       "the key is read from the environment variable OPENAI_API_KEY");
    command.add_option("--vlm", vlm, "Name of the vision-language model")
        ->check(kUtf8)
        ->capture_default_str();
    command.add_option("--seed", seed, "Sent with every request")->capture_default_str();
    command.add_option("--concurrency", concurrency, "Videos that are asked about at once")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    command
        .add_option("--requests-per-minute", limits.requests_per_minute,
                    "Send no more than that; 0 for no limit")
        ->check(CLI::Range(0.0, 1e6))
        ->capture_default_str();
    command.add_option("--timeout-seconds", timeout_seconds, "How long to wait for one reply")
        ->check(CLI::Range(0.1, 86400.0))
        ->capture_default_str();
    command
        .add_option("--retries", limits.retries,
                    "How often a request that failed is sent again, ever later")
        ->check(CLI::Range(0, 100))
        ->capture_default_str();
    command
        .add_option("--reply-attempts", limits.reply_attempts,
                    "Replies to ask for until one can be read; those that came before count")
        ->check(CLI::Range(1, 100))
        ->capture_default_str();
    command.add_flag("--dry-run", dry_run, "Print what it would cost, and stop");
    command.add_option("--price-input", price_input, "Price of a million input tokens")
        ->check(CLI::NonNegativeNumber);
    command.add_option("--price-output", price_output, "Price of a million output tokens")
        ->check(CLI::NonNegativeNumber);
}

Server AskingFlags::server() const {
    if (api_base.empty()) {
        throw UsageError(
            "--api-base is missing: the address of an OpenAI-compatible server, such as "
            "https://api.openai.com/v1");
    }
    check_api_base(api_base);
    const char* key = std::getenv("OPENAI_API_KEY");
    if (key == nullptr || *key == '\0') {
        throw UsageError(
            "the environment variable OPENAI_API_KEY is not set; a local server that needs no key "
            "takes any word");
    }
    const std::string host = api_base.substr(api_base.find("//") + 2);
    if (api_base.starts_with("http://") && !host.starts_with("127.") &&
        !host.starts_with("localhost") && !host.starts_with("[::1]")) {
        log::warning("--api-base is http://, so that the key and all pictures travel unencrypted");
    }
    return {api_base, key, timeout_seconds};
}

void ScoreFlags::add(CLI::App& command) {
    command
        .add_option("--variant", variant,
                    "published: answers of a video pooled, raw scores rounded to three decimals; "
                    "paper: the mean over key interactions, exact")
        ->check(CLI::IsMember({"published", "paper"}))
        ->capture_default_str();
    command.add_flag("--skip-missing", skip_missing,
                     "Leave unanswered questions out; without it they count as no");
    command.add_flag("--clamp-spi", clamp_spi, "SPI below 0 becomes 0");
}

ScoreOptions ScoreFlags::options() const {
    return {variant == "paper" ? Variant::kPaper : Variant::kPublished, skip_missing, clamp_spi};
}

}  // namespace matrix::cli::eval
