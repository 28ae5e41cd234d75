#include "matrix/train/gradient_exchange.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cctype>
#include <limits>
#include <utility>

namespace matrix::train {
namespace {

/// Place of a tensor in the order in which gradients become complete: heads, blocks from the last,
/// the rest. A block's number is the first one in a name.
std::int64_t backward_order(const std::string& name) {
    if (name.starts_with("heads.")) {
        return std::numeric_limits<std::int64_t>::min();
    }
    const auto is_digit = [](unsigned char c) { return std::isdigit(c) != 0; };
    const auto dot = std::adjacent_find(name.begin(), name.end(), [&](char left, char right) {
        return left == '.' && is_digit(static_cast<unsigned char>(right));
    });
    return dot == name.end() ? std::numeric_limits<std::int64_t>::max()
                             : -std::stoll(std::string(dot + 1, name.end()));
}

}  // namespace

class GradientExchange::Hook : public torch::autograd::PostAccumulateGradHook {
public:
    Hook(GradientExchange& exchange, std::size_t bucket, std::size_t member)
        : exchange_(exchange), bucket_(bucket), member_(member) {}

    void operator()(const torch::autograd::Variable&) override {
        if (exchange_.exchanging_) {
            exchange_.complete(bucket_, member_);
            exchange_.start_complete_buckets();
        }
    }

private:
    GradientExchange& exchange_;
    std::size_t bucket_, member_;
};

GradientExchange::GradientExchange(const std::map<std::string, at::Tensor>& parameters,
                                   distributed::Communicator& communicator,
                                   std::int64_t bucket_bytes)
    : communicator_(communicator) {
    std::vector<std::pair<std::string, at::Tensor>> ordered(parameters.begin(), parameters.end());
    std::ranges::stable_sort(ordered, {}, [](const auto& p) { return backward_order(p.first); });
    std::int64_t room = 0;
    for (const auto& [name, parameter] : ordered) {
        TORCH_CHECK(parameter.scalar_type() == at::kFloat, "gradients of ", name, " are ",
                    parameter.scalar_type(), ", not float32");
        const auto bytes = static_cast<std::int64_t>(parameter.nbytes());
        if (buckets_.empty() || bytes > room) {
            buckets_.emplace_back();
            room = bucket_bytes;
        }
        room -= bytes;
        places_[name] = {buckets_.size() - 1, buckets_.back().members.size()};
        buckets_.back().members.push_back({parameter, {}});
    }
    for (std::size_t b = 0; b < buckets_.size(); ++b) {
        Bucket& bucket = buckets_[b];
        std::int64_t size = 0;
        for (const Member& member : bucket.members) {
            size += member.parameter.numel();
        }
        bucket.flat = at::zeros({size}, bucket.members.front().parameter.options());
        std::int64_t begin = 0;
        for (std::size_t m = 0; m < bucket.members.size(); ++m) {
            Member& member = bucket.members[m];
            member.gradient = bucket.flat.narrow(0, begin, member.parameter.numel())
                                  .view(member.parameter.sizes());
            begin += member.parameter.numel();
            torch::autograd::impl::set_post_acc_grad_hooks(member.parameter,
                                                           std::make_unique<Hook>(*this, b, m));
        }
    }
}

GradientExchange::~GradientExchange() {
    for (Bucket& bucket : buckets_) {
        for (Member& member : bucket.members) {
            torch::autograd::impl::set_post_acc_grad_hooks(member.parameter, nullptr);
            member.parameter.mutable_grad().reset();
        }
    }
}

void GradientExchange::begin() {
    exchanging_ = false;
    num_started_ = num_overlapped_ = 0;
    for (Bucket& bucket : buckets_) {
        bucket.flat.zero_();
        bucket.num_incomplete = bucket.members.size();
        for (Member& member : bucket.members) {
            member.complete = false;
            member.parameter.mutable_grad() = member.gradient;
        }
    }
}

void GradientExchange::exchange(const std::string& what) {
    what_ = what;
    exchanging_ = true;
}

void GradientExchange::complete(const std::map<std::string, at::Tensor>& parameters) {
    for (const auto& [name, parameter] : parameters) {
        if (const auto place = places_.find(name); place != places_.end()) {
            complete(place->second.first, place->second.second);
        }
    }
    start_complete_buckets();
}

void GradientExchange::complete(std::size_t bucket, std::size_t member) {
    if (!std::exchange(buckets_[bucket].members[member].complete, true)) {
        --buckets_[bucket].num_incomplete;
    }
}

void GradientExchange::start_complete_buckets() {
    while (num_started_ < buckets_.size() && buckets_[num_started_].num_incomplete == 0) {
        Bucket& bucket = buckets_[num_started_++];
        bucket.work = communicator_.all_reduce(bucket.flat, distributed::ReduceOp::kAverage, what_);
    }
}

void GradientExchange::finish() {
    num_overlapped_ = num_started_;
    for (Bucket& bucket : buckets_) {
        bucket.num_incomplete = 0;
    }
    start_complete_buckets();
    for (Bucket& bucket : buckets_) {
        std::exchange(bucket.work, nullptr)->wait();
        for (const Member& member : bucket.members) {
            TORCH_CHECK(member.parameter.grad().is_alias_of(bucket.flat), "a gradient of shape ",
                        member.parameter.sizes(), " has left its bucket");
        }
    }
    exchanging_ = false;
}

}  // namespace matrix::train
