#include <c10/util/Exception.h>
#include <CLI/CLI.hpp>

#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>

#include "cli/commands.h"
#include "cli/help_format.h"
#include "matrix/core/device_memory.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"

namespace {

/// stderr gets one line per fault, whatever the message holds. Of several processes each says which
/// one it is.
void print_fault(std::string message) {
    for (char& c : message) {
        if (c == '\n' || c == '\r') {
            c = ' ';
        }
    }
    while (!message.empty() && message.back() == ' ') {
        message.pop_back();
    }
    matrix::log::error_to_file(message);
    if (matrix::log::rank() > 0) {
        message.insert(0, "rank " + std::to_string(matrix::log::rank()) + ": ");
    }
    std::cerr << "matrix: " << message << '\n';
}

/// CLI11 reads "" as 0, and lets "nan" through every range.
std::string fault_of_number(const std::string& text) {
    return text.empty() || !std::isfinite(std::strtod(text.c_str(), nullptr))
               ? "\"" + text + "\" is no number"
               : "";
}

/// CLI11 takes "-1" and what is beyond 64 bits for the largest number.
std::string fault_of_unsigned(const std::string& text) {
    errno = 0;
    static_cast<void>(std::strtoull(text.c_str(), nullptr, 0));
    return text.starts_with('-') || errno == ERANGE ? "\"" + text + "\" is not in 0..2^64-1" : "";
}

void check_numbers(CLI::App& app) {
    for (CLI::Option* option : app.get_options()) {
        const std::string type = option->get_type_name();
        if (type.starts_with("UINT")) {
            option->check(CLI::Validator(fault_of_unsigned, ""));
        }
        if (type.starts_with("INT") || type.starts_with("UINT") || type.starts_with("FLOAT")) {
            option->check(CLI::Validator(fault_of_number, ""));
        }
    }
    for (CLI::App* command : app.get_subcommands({})) {
        check_numbers(*command);
    }
}

/// CLI11 says first what is missing; mostly that is for a word that it does not know.
std::string fault_of_parse(const CLI::App& app, const CLI::ParseError& error) {
    const std::vector<std::string> unknown = app.remaining(true);
    if (unknown.empty() || dynamic_cast<const CLI::RequiredError*>(&error) == nullptr) {
        return error.what();
    }
    const CLI::App* command = &app;
    while (!command->get_subcommands().empty()) {
        command = command->get_subcommands().front();
    }
    const bool flag = unknown.front().starts_with('-');
    std::vector<std::string> names;
    if (flag) {
        for (const CLI::Option* option : command->get_options()) {
            names.push_back(option->get_name());
        }
    } else {
        for (const CLI::App* subcommand : command->get_subcommands({})) {
            names.push_back(subcommand->get_name());
        }
    }
    const auto nearest = matrix::did_you_mean(unknown.front(), names);
    return std::string("there is no ") + (flag ? "flag " : "command ") + unknown.front() +
           (nearest ? "; did you mean " + *nearest + "?" : "");
}

int run(const matrix::cli::Action& action) {
    try {
        action();
        if (!std::cout.flush()) {
            print_fault("cannot write to stdout");
            return 1;
        }
        const double gib = static_cast<double>(matrix::tensor_bytes(c10::kCPU).peak) / (1 << 30);
        matrix::log::debug("tensors took at most " + std::to_string(gib) +
                           " GiB of the host's memory at once");
        return 0;
    } catch (const matrix::Stopped& stopped) {
        return 128 + stopped.signal;
    } catch (const matrix::Error& error) {
        for (const std::string& fault : error.faults()) {
            print_fault(fault);
        }
        return error.exit_code();
    } catch (const c10::OutOfMemoryError& error) {
        print_fault("out of memory: " + std::string(error.what_without_backtrace()));
    } catch (const c10::Error& error) {
        print_fault(error.what_without_backtrace());
    } catch (const std::filesystem::filesystem_error& error) {
        print_fault(error.path1().string() + ": " + error.code().message());
    } catch (const std::bad_alloc&) {
        print_fault("out of memory");
    } catch (const std::exception& error) {
        print_fault(error.what());
    }
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    matrix::use_counting_allocator();
    CLI::App app{
        "Fine-tunes CogVideoX image-to-video models with MATRIX: LoRA, and attention aligned with "
        "instance masks."};
    app.name("matrix");
    app.set_version_flag("--version", std::string(MATRIX_VERSION));
    app.require_subcommand(1);
    app.formatter(matrix::cli::help_formatter());  // subcommands inherit it

    matrix::cli::Action action;
    matrix::cli::add_train_command(app, action);
#ifdef MATRIX_WITH_ENCODERS
    matrix::cli::add_prepare_command(app, action);
    matrix::cli::add_generate_command(app, action);
    matrix::cli::add_analyze_command(app, action);
    matrix::cli::add_synth_command(app, action);
    matrix::cli::add_import_command(app, action);
#endif
#ifdef MATRIX_WITH_MEDIA
    matrix::cli::add_eval_command(app, action);
#endif
    matrix::cli::add_export_command(app, action);
    matrix::cli::add_init_command(app, action);
    matrix::cli::add_check_command(app, action);
    matrix::cli::add_bench_command(app, action);
    matrix::cli::add_probe_command(app, action);

    check_numbers(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
            return app.exit(error);  // --help, --version
        }
        print_fault(fault_of_parse(app, error));
        return 2;
    }
    std::signal(SIGPIPE, SIG_IGN);
    // A file-size limit must arrive as a failed write, which the writers report, and not as the end
    // of the process.
    std::signal(SIGXFSZ, SIG_IGN);
    return run(action);
}
