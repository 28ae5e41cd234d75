#include <CLI/CLI.hpp>

#include <iterator>
#include <memory>

#include "cli/eval/commands.h"
#include "cli/eval/flags.h"
#include "cli/eval/print.h"
#include "matrix/core/directory_lock.h"
#include "matrix/core/signals.h"
#include "matrix/eval/asking.h"
#include "matrix/eval/score_table.h"

namespace matrix::cli::eval {
namespace {

using Planner = Plan (*)(const Asking&);

struct Flags {
    DataFlags data;
    AskingFlags asking;
    ScoreFlags scores;  ///< of `run`
    bool shared_boxes = false;
};

Asking asking_of(const Flags& flags, bool need_models) {
    Asking asking;
    asking.layout = flags.data.layout();
    asking.selection = select(asking.layout, flags.data.wanted, need_models);
    asking.vlm = flags.asking.vlm;
    asking.seed = flags.asking.seed;
    asking.shared_boxes = flags.shared_boxes;
    return asking;
}

/// Plans all steps for their estimate, and then each again once the one before it is done, since it
/// may need its files.
std::vector<LeftOut> ask_in_order(const Flags& flags, Asking asking,
                                  const std::vector<Planner>& steps) {
    std::unique_ptr<VlmClient> client;
    std::unique_ptr<DirectoryLock> lock;
    if (!flags.asking.dry_run) {
        const Server server = flags.asking.server();
        lock = std::make_unique<DirectoryLock>(asking.layout.cache(), "an evaluation");
        client = std::make_unique<VlmClient>(
            make_curl_transport(server), ReplyCache(asking.layout.cache()), flags.asking.limits);
        asking.client = client.get();
    }
    std::vector<Plan> plans;
    asking.assume_questions = steps.size() > 1;
    for (const Planner& plan : steps) {
        plans.push_back(plan(asking));
    }
    asking.assume_questions = false;
    print_estimate(plans, flags.asking);
    std::vector<LeftOut> left_out;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        if (flags.asking.dry_run) {
            std::move(plans[i].left_out.begin(), plans[i].left_out.end(),
                      std::back_inserter(left_out));
            continue;
        }
        StepResult result =
            carry_out(i == 0 ? std::move(plans[i]) : steps[i](asking), flags.asking.concurrency);
        print_result(result);
        std::move(result.left_out.begin(), result.left_out.end(), std::back_inserter(left_out));
    }
    if (client) {
        print_spending(client->spending());
    }
    return left_out;
}

void run_main(const Flags& flags) {
    install_stop_signals();
    const Asking asking = asking_of(flags, true);
    std::vector<LeftOut> left_out =
        ask_in_order(flags, asking, {plan_questions, plan_emergence, plan_answers});
    if (!flags.asking.dry_run) {
        ScoreOptions options = flags.scores.options();
        const ScoreTable table = score(asking.layout, asking.selection, options);
        options.variant =
            options.variant == Variant::kPaper ? Variant::kPublished : Variant::kPaper;
        write_score_files(asking.layout, table);
        print_scores(table, score(asking.layout, asking.selection, options));
        left_out.insert(left_out.end(), table.left_out.begin(), table.left_out.end());
    }
    throw_left_out(left_out);
}

struct Step {
    const char* name;
    const char* description;
    const char* example;
    bool needs_models;
    Planner plan;
};

CLI::App* add_command(CLI::App& eval, const Step& step, const std::shared_ptr<Flags>& flags) {
    CLI::App* command = eval.add_subcommand(step.name, step.description);
    flags->data.add(*command, step.needs_models);
    flags->asking.add(*command);
    command->footer(std::string("Example:\n  matrix eval ") + step.name + " " + step.example);
    return command;
}

void add_step(CLI::App& eval, Action& action, const Step& step) {
    auto flags = std::make_shared<Flags>();
    if (step.plan == plan_verify) {
        flags->asking.vlm = "gpt-4o";
    }
    CLI::App* command = add_command(eval, step, flags);
    if (step.plan == plan_verify) {
        command->add_flag("--shared-boxes", flags->shared_boxes,
                          "Let objects of one class share a box, as the public code does");
    }
    command->callback([flags, step, &action] {
        action = [flags, step] {
            install_stop_signals();
            throw_left_out(ask_in_order(*flags, asking_of(*flags, step.needs_models), {step.plan}));
        };
    });
}

}  // namespace

void add_asking_commands(CLI::App& app, Action& action) {
    add_step(app, action,
             {"verify", "Step 2: which detected box is which object of the scenario",
              "--root eval --api-base https://api.openai.com/v1", false, plan_verify});
    add_step(app, action,
             {"questions", "Step 6: ten questions for each key interaction; asked once, then kept",
              "--root eval --api-base https://api.openai.com/v1", false, plan_questions});
    add_step(app, action,
             {"emergence", "Step 7: frames on which instances appear from nowhere or vanish",
              "--root eval --api-base https://api.openai.com/v1 --model cogvideox_5b", true,
              plan_emergence});
    add_step(app, action,
             {"answers", "Step 8: answers to the questions, from the frames with their boxes",
              "--root eval --api-base http://127.0.0.1:8000/v1 --vlm Qwen2.5-VL-72B-Instruct", true,
              plan_answers});
    auto flags = std::make_shared<Flags>();
    CLI::App* command = add_command(
        app,
        {"run", "Steps 6 to 12 in order: questions, emergence, answers, scores",
         "--root eval --api-base https://api.openai.com/v1 --dry-run --price-input 1.25", true,
         nullptr},
        flags);
    flags->scores.add(*command);
    command->callback([flags, &action] { action = [flags] { run_main(*flags); }; });
}

}  // namespace matrix::cli::eval
