#include "matrix/nn/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <utility>

#include "matrix/nn/offload.h"
#include "nn/graph.h"

namespace matrix::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct State final : torch::CustomClassHolder {
    BlockFunction block;
    std::vector<bool> input_needs_grad;
    std::size_t num_inputs = 0;
    RecomputeMemo memo;
    std::shared_ptr<ActivationOffload> offload;
    std::shared_ptr<OffloadedTensors> away;
    std::weak_ptr<OffloadedTensors> away_before;  ///< of the block before
    bool differentiated = false;

    /// Sends the inputs away, and what of the memo is as long as they are. Log-sum-exps stay: they
    /// are small, and kernels have views of them in what they save.
    void send(at::TensorList inputs) {
        std::vector<at::Tensor> leaving = inputs.vec();
        if (memo.attention) {
            leaving.push_back(std::exchange(memo.attention->output, {}));
        }
        away = offload->store(leaving);
    }
    /// Brings it all back; the inputs.
    [[nodiscard]] variable_list receive() {
        variable_list tensors = std::exchange(away, nullptr)->take();
        if (memo.attention) {
            memo.attention->output = std::move(tensors.back());
            tensors.pop_back();
        }
        return tensors;
    }
};

struct RecomputedBlock : torch::autograd::Function<RecomputedBlock> {
    static variable_list forward(AutogradContext* ctx, c10::intrusive_ptr<State> state,
                                 at::TensorList inputs, at::TensorList parameters) {
        std::vector<at::Tensor> detached;
        for (const at::Tensor& input : inputs) {
            state->input_needs_grad.push_back(input.requires_grad());
            detached.push_back(input.detach());
        }
        state->num_inputs = inputs.size();
        variable_list outputs = state->block(detached, state->memo);

        variable_list saved(inputs.begin(), inputs.end());
        if (state->offload) {
            state->away_before = state->offload->end_block();
        }
        if (state->memo.keep == Keep::kOffloaded) {
            state->send(inputs);
            saved.assign(inputs.size(), at::Tensor());
        }
        saved.insert(saved.end(), parameters.begin(), parameters.end());
        ctx->save_for_backward(saved);
        ctx->saved_data["state"] = c10::IValue::make_capsule(state);
        ctx->set_materialize_grads(false);
        return outputs;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto state =
            c10::static_intrusive_pointer_cast<State>(ctx->saved_data["state"].toCapsule());
        variable_list saved = ctx->get_saved_variables();
        TORCH_CHECK(!std::exchange(state->differentiated, true),
                    "a recomputed block was differentiated twice");
        if (state->away) {
            variable_list returned = state->receive();
            std::move(returned.begin(), returned.end(), saved.begin());
        }
        if (const auto next = state->away_before.lock()) {
            next->fetch();
        }

        variable_list inputs, wanted;
        std::vector<std::size_t> slot_of_wanted;
        for (std::size_t i = 0; i < state->num_inputs; ++i) {
            inputs.push_back(saved[i].detach().set_requires_grad(state->input_needs_grad[i]));
            if (state->input_needs_grad[i]) {
                wanted.push_back(inputs.back());
                slot_of_wanted.push_back(i);
            }
        }
        for (std::size_t i = state->num_inputs; i < saved.size(); ++i) {
            wanted.push_back(saved[i]);
            slot_of_wanted.push_back(i);
        }

        variable_list roots, seeds;
        {
            const at::AutoGradMode enable_grad(true);
            state->memo.recomputing = true;
            const variable_list outputs = state->block(inputs, state->memo);
            for (std::size_t i = 0; i < outputs.size(); ++i) {
                if (grads[i].defined() && outputs[i].requires_grad()) {
                    roots.push_back(outputs[i]);
                    seeds.push_back(grads[i]);
                }
            }
        }
#ifdef MATRIX_CHECK_LEAVES
        check_leaves(roots, wanted);
#endif
        state->memo = {};  // what a gradient needs is in the graph by now

        variable_list result(1 + saved.size());  // the state's slot, then inputs and parameters
        if (!roots.empty()) {
            const variable_list found =
                torch::autograd::grad(roots, wanted, seeds, false, false, true);
            for (std::size_t i = 0; i < found.size(); ++i) {
                result[1 + slot_of_wanted[i]] = found[i];
            }
        }
        return result;
    }
};

}  // namespace

std::vector<at::Tensor> recompute_in_backward(const BlockFunction& block,
                                              const std::vector<at::Tensor>& inputs,
                                              const std::vector<at::Tensor>& parameters, Keep keep,
                                              const std::shared_ptr<ActivationOffload>& offload) {
    TORCH_CHECK(keep != Keep::kOffloaded || offload, "nowhere to offload a block to");
    if (keep == Keep::kGraph) {
        RecomputeMemo memo;
        return block(inputs, memo);
    }
    auto state = c10::make_intrusive<State>();
    state->block = block;
    state->memo.keep = keep;
    state->offload = offload;
    return RecomputedBlock::apply(state, at::TensorList(inputs), at::TensorList(parameters));
}

}  // namespace matrix::nn
