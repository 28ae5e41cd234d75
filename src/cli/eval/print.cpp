#include "cli/eval/print.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "matrix/core/error.h"
#include "matrix/eval/report.h"

namespace matrix::cli::eval {
namespace {

std::string with_decimals(double value, int decimals) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", decimals, value);
    return text;
}

std::string cost_text(const Cost& cost, const AskingFlags& flags) {
    std::string text = std::to_string(cost.requests) + " requests, " +
                       std::to_string(cost.pictures) + " pictures, about " +
                       std::to_string(cost.input_tokens) + " input and " +
                       std::to_string(cost.output_tokens) + " output tokens";
    if (flags.price_input >= 0.0 || flags.price_output >= 0.0) {
        const double price =
            std::max(flags.price_input, 0.0) * static_cast<double>(cost.input_tokens) +
            std::max(flags.price_output, 0.0) * static_cast<double>(cost.output_tokens);
        text += ", about " + with_decimals(price / 1e6, 2) + " at the given prices";
    }
    return text;
}

std::string signed_text(double value) {
    char text[64];
    std::snprintf(text, sizeof text, "%+.4f", value);
    return text;
}

const char* name_of(Variant variant) {
    return variant == Variant::kPaper ? "paper" : "published";
}

const ModelAverage* find(const std::vector<ModelAverage>& models, const std::string& name) {
    const auto place = std::find_if(models.begin(), models.end(),
                                    [&](const ModelAverage& m) { return m.model == name; });
    return place == models.end() ? nullptr : &*place;
}

}  // namespace

void print_estimate(const std::vector<Plan>& plans, const AskingFlags& flags) {
    Cost sum;
    for (const Plan& plan : plans) {
        sum += plan.cost();
        std::cout << plan.step << ": " << plan.kept << " done before, " << plan.tasks.size()
                  << " to do, at most " << cost_text(plan.cost(), flags) << '\n';
    }
    if (plans.size() > 1) {
        std::cout << "together at most " << cost_text(sum, flags) << '\n';
    }
    std::cout << "(replies that the cache has cost nothing; output without what the model thinks "
                 "to itself)"
              << std::endl;
}

void print_result(const StepResult& result) {
    std::cout << result.step << ": " << result.done << " done, " << result.kept << " kept, "
              << result.left_out.size() << " left out" << std::endl;
}

void print_spending(const Spending& spending) {
    std::cout << spending.sent << " requests sent, " << spending.from_cache
              << " replies from the cache, " << spending.malformed << " malformed; "
              << spending.input_tokens << " input and " << spending.output_tokens
              << " output tokens as the server counts" << std::endl;
}

void print_scores(const ScoreTable& table, const ScoreTable& other) {
    std::cout << markdown_table(table);
    for (const std::string& note : table.notes) {
        std::cout << "note: " << note << '\n';
    }
    const auto others = averages(other);
    for (const ModelAverage& model : averages(table)) {
        const ModelAverage* same = find(others, model.model);
        if (model.average.videos > 0 && same != nullptr) {
            std::cout << name_of(other.options.variant) << " instead of "
                      << name_of(table.options.variant) << " would change " << model.model
                      << " by KISA " << signed_text(*same->average.kisa - *model.average.kisa)
                      << ", SGI " << signed_text(*same->average.sgi - *model.average.sgi) << ", IF "
                      << signed_text(*same->average.fidelity - *model.average.fidelity) << '\n';
        }
    }
    std::cout.flush();
}

nlohmann::ordered_json scores_json(const ScoreTable& table, const ScoreTable& other) {
    using Json = nlohmann::ordered_json;
    const auto number = [](const std::optional<double>& value) {
        return value ? Json(*value) : Json();
    };
    const auto models = [&](const ScoreTable& scored) {
        Json list = Json::array();
        for (const ModelAverage& model : averages(scored)) {
            list.push_back({{"model", model.model},
                            {"videos", model.average.videos},
                            {"KISA", number(model.average.kisa)},
                            {"SGI", number(model.average.sgi)},
                            {"SPI", number(model.average.spi)},
                            {"IF", number(model.average.fidelity)}});
        }
        return list;
    };
    Json left_out = Json::array();
    for (const LeftOut& left : table.left_out) {
        left_out.push_back(left.line());
    }
    return {{"variant", name_of(table.options.variant)},
            {"models", models(table)},
            {"other_variant", models(other)},
            {"notes", table.notes},
            {"left_out", std::move(left_out)}};
}

void throw_left_out(const std::vector<LeftOut>& left_out) {
    std::vector<std::string> faults;
    std::vector<const LeftOut*> said;
    for (const LeftOut& left : left_out) {
        const bool again = std::any_of(said.begin(), said.end(), [&](const LeftOut* before) {
            return (before->model.empty() || before->model == left.model) &&
                   before->data_type == left.data_type &&
                   (before->video.empty() || before->video == left.video);
        });
        if (!again) {
            faults.push_back(left.line());
            said.push_back(&left);
        }
    }
    if (!faults.empty()) {
        faults.push_back("left out: " + std::to_string(faults.size()) + ", each named above");
        throw RunError(std::move(faults));
    }
}

}  // namespace matrix::cli::eval
