#include "prepare/crew.h"

#include <ATen/ATen.h>

#include <sstream>

#include "matrix/core/signals.h"
#include "matrix/distributed/collective.h"

namespace matrix::prepare {

void Crew::meet(const std::string& what) const {
    int signal = stop_signal().value_or(0);
    if (ranks_ != nullptr) {
        at::Tensor highest = at::tensor({signal}, at::kInt).to(ranks_->device());
        ranks_->all_reduce(highest, distributed::ReduceOp::kMax, what)->wait();
        signal = highest.item<int>();
        ranks_->check();
    }
    if (signal != 0) {
        throw Stopped{signal};
    }
}

std::vector<std::string> Crew::gather(const std::vector<std::string>& own) const {
    if (ranks_ == nullptr) {
        return own;
    }
    std::string text;
    for (const std::string& line : own) {
        text += line + '\n';
    }
    std::vector<std::string> all;
    for (const std::string& part : distributed::gather_text(*ranks_, text, "faults")) {
        std::istringstream lines(part);
        for (std::string line; std::getline(lines, line);) {
            all.push_back(line);
        }
    }
    return all;
}

}  // namespace matrix::prepare
