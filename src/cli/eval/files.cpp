#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <iostream>
#include <memory>

#include "cli/eval/commands.h"
#include "cli/eval/flags.h"
#include "cli/eval/print.h"
#include "matrix/core/signals.h"
#include "matrix/eval/overlay.h"
#include "matrix/eval/report.h"
#include "matrix/eval/score_table.h"

namespace matrix::cli::eval {
namespace {

struct Flags {
    DataFlags data;
    ScoreFlags scores;
    std::string out;
    bool json = false;
};

/// The asked-for variant and the other one.
std::pair<ScoreTable, ScoreTable> score_both(const Flags& flags) {
    const Layout layout = flags.data.layout();
    const Selection selection = select(layout, flags.data.wanted, true);
    ScoreOptions options = flags.scores.options();
    ScoreTable table = score(layout, selection, options);
    options.variant = options.variant == Variant::kPaper ? Variant::kPublished : Variant::kPaper;
    return {std::move(table), score(layout, selection, options)};
}

void overlay_main(const Flags& flags) {
    install_stop_signals();
    const Layout layout = flags.data.layout();
    const StepResult result = make_overlays(layout, select(layout, flags.data.wanted, true));
    print_result(result);
    throw_left_out(result.left_out);
}

void scores_main(const Flags& flags) {
    const auto [table, other] = score_both(flags);
    write_score_files(flags.data.layout(), table);
    if (flags.json) {
        std::cout << scores_json(table, other).dump(2) << std::endl;
    } else {
        print_scores(table, other);
    }
    throw_left_out(table.left_out);
}

void report_main(const Flags& flags) {
    const auto [table, other] = score_both(flags);
    const Layout layout = flags.data.layout();
    const std::filesystem::path out =
        flags.out.empty() ? layout.scores() / "report" : std::filesystem::path(flags.out);
    for (const auto& file : write_report(layout, table, other, out)) {
        std::cout << "wrote " << file.string() << std::endl;
    }
    throw_left_out(table.left_out);
}

CLI::App* add_command(CLI::App& eval, const std::string& name, const std::string& description,
                      const std::shared_ptr<Flags>& flags, Action& action,
                      void (*run)(const Flags&)) {
    CLI::App* command = eval.add_subcommand(name, description);
    flags->data.add(*command, true);
    command->footer("Example:\n  matrix eval " + name + " --root eval");
    command->callback([flags, run, &action] { action = [flags, run] { run(*flags); }; });
    return command;
}

}  // namespace

void add_file_commands(CLI::App& app, Action& action) {
    auto overlay = std::make_shared<Flags>();
    add_command(app, "overlay", "Step 5: draw every instance's box and colour into the videos",
                overlay, action, overlay_main);

    auto scores = std::make_shared<Flags>();
    CLI::App* command = add_command(
        app, "scores", "Steps 9 to 12: KISA, SGI, SPI and IF by video, data type and model", scores,
        action, scores_main);
    scores->scores.add(*command);
    command->add_flag("--json", scores->json, "Print the averages as JSON");

    auto report = std::make_shared<Flags>();
    command = add_command(app, "report",
                          "Tables as Markdown, LaTeX and CSV, and one page that compares videos",
                          report, action, report_main);
    report->scores.add(*command);
    command->add_option("--out", report->out, "Directory for them (default SCORE_RESULTS/report)");
}

}  // namespace matrix::cli::eval
