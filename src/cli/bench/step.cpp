#include "cli/bench/step.h"

#include <ATen/ATen.h>

#include "cli/bench/flop.h"
#include "cli/bench/measure.h"
#include "cli/bench/training.h"
#include "matrix/core/shape.h"

namespace matrix::cli::bench {
namespace {

/// Activations are what the peak has besides what always lives.
nlohmann::json bytes_json(const Training& training, const Measurement& m) {
    const std::int64_t weights = training.weight_bytes(), trained = training.trained_bytes(),
                       optimizer = training.optimizer_bytes();
    const std::int64_t device = m.peak_bytes - training.host_copy_bytes();
    return {{"host", m.host_bytes},
            {"device", device},
            {"planned", training.plan().tensor_bytes()},
            {"in_host",
             {{"weights", training.plan().host_weights},
              {"activations", training.plan().host_activations}}},
            {"live",
             {{"weights", weights},
              {"trained", trained},
              {"optimizer", optimizer},
              {"activations", device - weights - trained - optimizer}}}};
}

nlohmann::json conditions(const Request& request, const Training& training) {
    nlohmann::json json = machine(training.device());
    json["shape"] = training.shape().json();
    json["batch"] = request.batch;
    json["rank"] = request.rank;
    json["blocks"] = training.lora().blocks;
    json["input_projection"] = request.input_projection;
    json["sga_blocks"] = request.sga_blocks;
    json["spa_blocks"] = request.spa_blocks;
    json["checkpointing"] = request.checkpointing == "on";
    json["keep"] = training.plan().policy;
    json["base"] = training.plan().base;
    json["fp8_matmul"] = training.plan().fp8_matmul;
    json["dtype"] = request.dtype_name;
    json["seed"] = request.seed;
    json["warmup"] = request.warmup;
    json["steps"] = request.steps;
    return json;
}

struct FirstStep {
    double loss = 0.0, grad_norm = 0.0;
    nlohmann::json terms = nlohmann::json::object();

    explicit FirstStep(const train::StepResult& result)
        : loss(result.loss.item<double>()), grad_norm(result.grad_norm.item<double>()) {
        terms["denoise"] = result.loss_denoise.item<double>();
        for (const alignment::TermResult& term : result.terms) {
            terms[term.name] = term.loss.item<double>();
        }
    }
};

}  // namespace

nlohmann::json bench_step(const Request& request) {
    Training training(request);
    if (!request.write_inputs.empty()) {
        training.write_inputs(request.write_inputs);
    }
    std::optional<FirstStep> first;
    train::StepResult last;
    const Measurement m = measure(
        [&] {
            last = training.step();
            if (!first) {
                first.emplace(last);
            }
        },
        request.warmup, request.steps, training.device());

    const Flop flop =
        step_flop(training.shape(), training.lora(), request.batch, training.plan().keep);
    const double peak = measured_peak(training.device(), request.dtype());
    const std::vector<double>& counted = training.device().is_cpu() ? m.cpu_seconds : m.seconds;
    return {
        {"target", "step"},
        {"step_seconds", spread(m.seconds)},
        {"step_cpu_seconds", spread(m.cpu_seconds)},
        {"first_step_seconds", m.first_seconds},
        {"peak_bytes", bytes_json(training, m)},
        {"flop", flop.total()},
        {"flop_parts",
         {{"forward", flop.forward}, {"backward", flop.backward}, {"recomputed", flop.recomputed}}},
        {"device_peak_flops", peak},
        {"share_of_peak", flop.total() / median(counted) / peak},
        {"loss", first->loss},
        {"grad_norm", first->grad_norm},
        {"losses", first->terms},
        {"last_loss", last.loss.item<double>()},
        {"conditions", conditions(request, training)}};
}

}  // namespace matrix::cli::bench
