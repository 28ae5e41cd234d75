#include "train/step_record.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>

#include "matrix/core/signals.h"

namespace matrix::train {
namespace {

/// JSON has no NaN: what is not finite is written as null.
nlohmann::json number(double value) {
    return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

}  // namespace

StepFacts facts_of(const StepResult& result, const std::vector<BatchFacts>& batches,
                   double data_seconds) {
    StepFacts facts;
    for (const BatchFacts& batch : batches) {
        facts.images_dropped += batch.images_dropped;
        facts.captions_dropped += batch.captions_dropped;
        facts.id_maps_dropped += batch.id_maps_dropped;
    }
    for (const alignment::TermResult& term : result.terms) {
        facts.counted.push_back(term.counted);
        facts.skipped.push_back(term.skipped);
    }
    facts.data_seconds = data_seconds;
    facts.signal = stop_signal();
    return facts;
}

void agree(StepFacts& facts, const Ranks& ranks, const std::string& name) {
    std::vector<std::int64_t*> counts = {&facts.images_dropped, &facts.captions_dropped,
                                         &facts.id_maps_dropped};
    for (std::vector<std::int64_t>* list : {&facts.counted, &facts.skipped}) {
        for (std::int64_t& count : *list) {
            counts.push_back(&count);
        }
    }
    std::vector<double> values;
    for (const std::int64_t* count : counts) {
        // The ranks of a replica count the same samples.
        values.push_back(static_cast<double>(*count) / ranks.context);
    }
    values.push_back(facts.data_seconds / ranks.all.world_size());
    for (const int signal : kStopSignals) {
        values.push_back(facts.signal == signal ? 1.0 : 0.0);
    }
    at::Tensor sums = at::tensor(values, at::kDouble).to(ranks.all.device());
    ranks.all.all_reduce(sums, distributed::ReduceOp::kSum, "counts, " + name)->wait();
    const at::Tensor host = sums.cpu();
    ranks.all.check();
    const double* sum = host.const_data_ptr<double>();
    for (std::int64_t* count : counts) {
        *count = std::llround(*sum++);
    }
    facts.data_seconds = *sum++;
    for (const int signal : kStopSignals) {
        if (*sum++ > 0.0) {
            facts.signal = signal;
        }
    }
}

nlohmann::json record_of(std::int64_t step, const StepResult& result, const StepFacts& facts,
                         double learning_rate) {
    nlohmann::json record = {{"step", step},
                             {"loss", number(result.loss.item<double>())},
                             {"loss_denoise", number(result.loss_denoise.item<double>())},
                             {"learning_rate", learning_rate},
                             {"grad_norm", number(result.grad_norm.item<double>())},
                             {"images_dropped", facts.images_dropped},
                             {"captions_dropped", facts.captions_dropped},
                             {"id_maps_dropped", facts.id_maps_dropped},
                             {"data_seconds", facts.data_seconds}};
    for (std::size_t i = 0; i < result.terms.size(); ++i) {
        const alignment::TermResult& term = result.terms[i];
        record["loss_" + term.name] = number(term.loss.item<double>());
        record[term.name + "_counted"] = facts.counted[i];
        record[term.name + "_skipped"] = facts.skipped[i];
    }
    return record;
}

std::optional<std::string> non_finite_term(const nlohmann::json& record) {
    for (const auto& [name, value] : record.items()) {
        if (name.starts_with("loss_") && value.is_null()) {
            return name;
        }
    }
    for (const char* name : {"loss", "grad_norm"}) {
        if (record[name].is_null()) {
            return name;
        }
    }
    return std::nullopt;
}

std::string name_clips(const StepResult& result, const std::vector<BatchFacts>& batches, bool all) {
    std::string clips;
    for (std::size_t m = 0; m < batches.size(); ++m) {
        if (!all && result.micro_batches[m].isfinite().all().item<bool>()) {
            continue;
        }
        const BatchFacts& batch = batches[m];
        for (std::size_t i = 0; i < batch.names.size(); ++i) {
            clips +=
                (clips.empty() ? "" : ", ") + batch.names[i] + " (sample " +
                std::to_string(batch.sample_numbers[i]) + ", timestep " +
                std::to_string(batch.timestep[static_cast<std::int64_t>(i)].item<std::int64_t>()) +
                ")";
        }
    }
    return clips;
}

std::string progress_detail(const nlohmann::json& record) {
    std::string detail;
    const auto add = [&](const std::string& label, const nlohmann::json& value) {
        char text[64];
        std::snprintf(text, sizeof text, "%s%s %.4f", detail.empty() ? "" : "  ", label.c_str(),
                      value.is_number() ? value.get<double>() : std::nan(""));
        detail += text;
    };
    add("loss", record.at("loss"));
    for (const auto& [name, value] : record.items()) {
        if (name.starts_with("loss_")) {
            add(name.substr(5), value);
        }
    }
    return detail;
}

}  // namespace matrix::train
