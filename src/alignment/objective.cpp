#include "matrix/alignment/objective.h"

#include "block_taps.h"
#include "matrix/alignment/heads.h"
#include "matrix/alignment/losses.h"
#include "matrix/core/transfer.h"
#include "presence.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

// B batch, N interactions, E entities of a term (3 or 2), F x gh x gw cells, T x H x W pixels.

namespace matrix::alignment {
namespace {

/// One of the two terms during one evaluation.
struct Term {
    const Presence& presence;
    const Head* head;               // null where the map itself is the logits
    double weight;                  // lambda
    std::vector<at::Tensor> maps;   // per block [B, N, E, F, gh, gw] float32, detached
    std::vector<at::Tensor> grads;  // the same shapes, zero at first; empty without gradients
    at::Tensor loss;                // [] before `weight`
};

class MatrixObjective : public Objective {
public:
    MatrixObjective(AlignmentConfig config, std::uint64_t seed, at::Device device, HeadMode mode)
        : config_(std::move(config)), device_(device), mode_(mode) {
        if (mode_ == HeadMode::kNearest) {
            return;
        }
        if (config_.sga) {
            grounding_ = make_head(config_.head, "heads.grounding", seed, device);
        }
        if (config_.spa) {
            propagation_ = make_head(config_.head, "heads.propagation", seed, device);
        }
    }

    std::map<std::int64_t, nn::Tap> taps(const Supervision& supervision) const override {
        return make_taps(config_, supervision,
                         log_domain() ? ProbabilityDomain::kLog : ProbabilityDomain::kLinear,
                         device_);
    }

    Evaluation evaluate(const std::map<std::int64_t, at::Tensor>& tap_outputs,
                        const Supervision& supervision, const nn::TokenLayout& layout, double scale,
                        bool with_gradients) override {
        if (config_.sga || config_.spa) {
            check_supervision(supervision, layout);
        }
        const BatchPresence presence = find_presence(supervision);
        const std::int64_t interactions = supervision.token_mask.size(1);
        Evaluation result;
        std::map<std::int64_t, at::Tensor> detached, gradients;
        for (const auto& [block, output] : tap_outputs) {
            detached[block] = output.detach().to(at::kFloat);
            if (with_gradients) {
                gradients[block] = at::zeros_like(detached[block]);
            }
        }
        std::vector<Term> terms;
        const auto add = [&](const Presence& p, const Head* head, double weight, const auto& maps) {
            terms.push_back({p,
                             head,
                             weight,
                             maps(config_, detached, interactions),
                             {},
                             at::zeros({}, at::TensorOptions(device_).dtype(at::kFloat))});
            if (with_gradients) {
                terms.back().grads = maps(config_, gradients, interactions);
            }
        };
        if (config_.sga) {
            add(presence.sga, grounding_.get(), config_.sga->weight, grounding_maps);
        }
        if (config_.spa) {
            add(presence.spa, propagation_.get(), config_.spa->weight, propagation_maps);
        }
        run(terms, supervision, layout, scale, with_gradients);
        collect(terms, result);
        for (const auto& [block, output] : tap_outputs) {
            if (with_gradients && output.requires_grad()) {
                result.roots.push_back(output);
                result.root_gradients.push_back(gradients[block].to(output.scalar_type()));
            }
        }
        return result;
    }

    std::map<std::string, at::Tensor> parameters() const override {
        std::map<std::string, at::Tensor> all;
        for (const Head* head : {grounding_.get(), propagation_.get()}) {
            if (head != nullptr) {
                all.insert(head->parameters().begin(), head->parameters().end());
            }
        }
        return all;
    }

private:
    [[nodiscard]] bool log_domain() const {
        return config_.readout == "probabilities" && mode_ == HeadMode::kDecoder;
    }

    // Interaction by interaction, so that the device holds two mask tracks at a time, and entity by
    // entity, so that it holds one head's activations.
    void run(std::vector<Term>& terms, const Supervision& supervision,
             const nn::TokenLayout& layout, double scale, bool with_gradients) {
        const at::AutoGradMode mode(with_gradients);
        const std::int64_t batch = supervision.masks.size(0);
        for (std::int64_t b = 0; b < batch; ++b) {
            for (std::int64_t n = 0; n < supervision.masks.size(1); ++n) {
                at::Tensor tracks;  // [2, T, H, W] uint8
                for (Term& term : terms) {
                    const std::vector<bool>& counted = term.presence.counted[b][n];
                    for (std::size_t e = 0; e < counted.size(); ++e) {
                        if (!counted[e]) {
                            continue;
                        }
                        if (!tracks.defined()) {
                            tracks = upload(supervision.masks[b][n], device_);
                        }
                        const double share =
                            1.0 / static_cast<double>(batch * term.presence.interactions[b]);
                        run_entity(term, {b, n, static_cast<std::int64_t>(e)}, tracks, share, scale,
                                   static_cast<double>(layout.num_keys()));
                    }
                }
            }
        }
        if (with_gradients) {
            for (const auto& [name, parameter] : parameters()) {
                if (!parameter.grad().defined()) {
                    parameter.mutable_grad() = at::zeros_like(parameter);
                }
            }
        }
    }

    struct EntityIndex {
        std::int64_t b, n, e;
        [[nodiscard]] at::Tensor of(const at::Tensor& maps) const { return maps[b][n][e]; }
    };

    void run_entity(Term& term, const EntityIndex& index, const at::Tensor& tracks, double share,
                    double scale, double num_keys) {
        std::vector<at::Tensor> leaves;  // per block [F, gh, gw]
        for (const at::Tensor& maps : term.maps) {
            leaves.push_back(index.of(maps).detach().requires_grad_(at::GradMode::is_enabled()));
        }
        at::Tensor map = block_mean(leaves).unsqueeze(0);  // [1, F, gh, gw]
        if (log_domain()) {
            map = map + std::log(num_keys);
        }
        const at::Tensor target =
            (index.e < 2 ? tracks[index.e] : tracks[0].bitwise_or(tracks[1])).unsqueeze(0);
        const at::Tensor loss =
            (term.head != nullptr ? mask_loss(term.head->logits(map), target, config_)
                                  : mask_loss(repeat_cells(map), target, config_))
                .total;
        term.loss.add_(loss.detach(), share);
        if (at::GradMode::is_enabled()) {
            differentiate(term, index, loss * (term.weight * share * scale), leaves);
        }
    }

    static void differentiate(Term& term, const EntityIndex& index, const at::Tensor& loss,
                              std::vector<at::Tensor> inputs) {
        const std::size_t blocks = inputs.size();
        if (term.head != nullptr) {
            for (const auto& [name, parameter] : term.head->parameters()) {
                inputs.push_back(parameter);
            }
        }
        const std::vector<at::Tensor> grads =
            torch::autograd::grad({loss}, inputs, {}, /*retain_graph=*/false,
                                  /*create_graph=*/false, /*allow_unused=*/false);
        const at::NoGradGuard no_grad;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            if (i < blocks) {
                index.of(term.grads[i]).copy_(grads[i]);
            } else if (inputs[i].grad().defined()) {
                inputs[i].mutable_grad().add_(grads[i]);
            } else {
                inputs[i].mutable_grad() = grads[i];
            }
        }
    }

    // Mean over blocks; of log probabilities, the log of the mean probability.
    [[nodiscard]] at::Tensor block_mean(const std::vector<at::Tensor>& maps) const {
        if (maps.size() == 1) {
            return maps.front();
        }
        const at::Tensor stacked = at::stack(maps);
        return log_domain() ? stacked.logsumexp(0) - std::log(static_cast<double>(maps.size()))
                            : stacked.mean(0);
    }

    void collect(const std::vector<Term>& terms, Evaluation& result) const {
        auto next = terms.begin();
        const auto add = [&](const char* name, bool on) {
            TermResult& r = result.terms.emplace_back();
            r.name = name;
            if (!on) {
                r.loss = at::zeros({}, at::TensorOptions(device_).dtype(at::kFloat));
                return;
            }
            const Term& term = *next++;
            const at::Tensor mean = block_mean(term.maps);
            r.weight = term.weight;
            r.loss = term.loss;
            r.map = log_domain() ? mean.exp() : mean;
            r.counted = term.presence.num_counted;
            r.skipped = term.presence.num_skipped;
        };
        add("sga", config_.sga.present);
        add("spa", config_.spa.present);
    }

    AlignmentConfig config_;
    at::Device device_;
    HeadMode mode_;
    std::unique_ptr<Head> grounding_, propagation_;
};

}  // namespace

const TermResult& term_of(const std::vector<TermResult>& terms, std::string_view name) {
    const auto found = std::ranges::find(terms, name, &TermResult::name);
    TORCH_CHECK(found != terms.end(), "the objective has no term ", name);
    return *found;
}

std::unique_ptr<Objective> make_matrix_objective(const AlignmentConfig& config, std::uint64_t seed,
                                                 at::Device device, HeadMode mode) {
    return std::make_unique<MatrixObjective>(config, seed, device, mode);
}

}  // namespace matrix::alignment
