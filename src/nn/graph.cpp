#include "nn/graph.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <unordered_set>

namespace matrix::nn {

void check_leaves(const std::vector<at::Tensor>& roots, const std::vector<at::Tensor>& listed) {
    std::unordered_set<const c10::TensorImpl*> known;
    for (const at::Tensor& tensor : listed) {
        known.insert(tensor.unsafeGetTensorImpl());
    }
    std::unordered_set<const torch::autograd::Node*> seen;
    std::vector<torch::autograd::Node*> open;
    for (const at::Tensor& root : roots) {
        open.push_back(torch::autograd::impl::gradient_edge(root).function.get());
    }
    while (!open.empty()) {
        torch::autograd::Node* node = open.back();
        open.pop_back();
        if (node == nullptr || !seen.insert(node).second) {
            continue;
        }
        if (auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(node)) {
            TORCH_CHECK(known.count(leaf->variable.unsafeGetTensorImpl()) != 0,
                        "a block reads a trainable tensor of shape ", leaf->variable.sizes(),
                        " that is not in its list of parameters");
        }
        for (const auto& edge : node->next_edges()) {
            open.push_back(edge.function.get());
        }
    }
}

}  // namespace matrix::nn
