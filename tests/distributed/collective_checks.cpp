#include "distributed/collective_checks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "distributed/exchange_checks.h"
#include "matrix/core/error.h"
#include "matrix/distributed/collective.h"

namespace matrix::test {
namespace {

using distributed::Communicator;

void want(bool good, const std::string& what) {
    if (!good) {
        throw std::runtime_error(what);
    }
}

/// Rank 1 has none, the others some of all bytes and lengths.
std::string text_of(int rank) {
    return rank == 1 ? "" : std::string(3, '\0') + std::string(7 * rank, '\xff') + "end\n";
}

void check_texts(Communicator& group) {
    std::vector<std::string> wanted;
    for (int rank = 0; rank < group.world_size(); ++rank) {
        wanted.push_back(text_of(rank));
    }
    want(gather_text(group, text_of(group.rank()), "texts") == wanted, "gather_text");
    want(gather_text(group, "", "nothing") == std::vector<std::string>(group.world_size()),
         "gather_text of nothing");
    for (const std::string& text : {text_of(2), text_of(1)}) {
        bool was_asked = false;
        const std::string got = from_rank_0(
            group,
            [&] {
                was_asked = true;
                return text;
            },
            "deciding");
        want(got == text && was_asked == (group.rank() == 0), "from_rank_0");
    }
}

/// What `run` throws as E.
template <typename E>
std::optional<E> caught(const std::function<void()>& run) {
    try {
        run();
    } catch (const E& error) {
        return error;
    }
    return std::nullopt;
}

template <typename E>
std::optional<E> thrown_by_rank_0(Communicator& group, const std::function<std::string()>& decide) {
    return caught<E>([&] { (void)from_rank_0(group, decide, "deciding"); });
}

void check_thrown_on_rank_0(Communicator& group) {
    const std::vector<std::string> faults{"one", "two\nlines", ""};
    const auto run =
        thrown_by_rank_0<RunError>(group, [&]() -> std::string { throw RunError(faults); });
    want(run && run->faults() == faults, "RunError of rank 0");
    const auto usage =
        thrown_by_rank_0<UsageError>(group, [&]() -> std::string { throw UsageError(faults); });
    want(usage && usage->faults() == faults, "UsageError of rank 0");

    const auto decide = []() -> std::string { throw std::out_of_range("index 7\nat"); };
    if (group.rank() == 0) {
        want(thrown_by_rank_0<std::out_of_range>(group, decide).has_value(), "rank 0's exception");
        return;
    }
    const auto other = thrown_by_rank_0<RunError>(group, decide);
    want(other && std::string(other->what()) == "deciding failed on rank 0: index 7",
         "rank 0's exception on the others");
}

/// Of many dtypes and layouts, together over 32 MiB.
std::vector<at::Tensor> tensors_of(int rank) {
    std::vector<at::Tensor> tensors{at::scalar_tensor(rank + 0.5, at::kDouble)};
    for (const at::ScalarType dtype : {at::kBool, at::kByte, at::kHalf, at::kBFloat16, at::kInt,
                                       at::kLong, at::kComplexDouble, at::kFloat8_e4m3fn}) {
        tensors.push_back((at::arange(1, 4, at::kFloat) * (rank + 1)).to(dtype));
        tensors.push_back(at::empty({0, 3}, dtype));
    }
    tensors.push_back(at::full({3, 5}, rank, at::kFloat).t());
    tensors.push_back(at::full({6, 4}, rank, at::kShort).slice(1, 1, 4, 2));
    tensors.push_back(at::full({9 << 20}, rank, at::kFloat));
    tensors.push_back(at::full({3}, rank == 0 ? NAN : rank, at::kFloat).requires_grad_());
    return tensors;
}

void check_broadcast_tensors(Communicator& group) {
    for (int root = 0; root < std::min(2, group.world_size()); ++root) {
        const std::vector<at::Tensor> tensors = tensors_of(group.rank());
        broadcast_tensors(group, tensors, root, "parameters");
        const std::vector<at::Tensor> wanted = tensors_of(root);
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            const auto bytes = [](const at::Tensor& tensor) {
                return tensor.detach().contiguous().view(-1).view(at::kByte);
            };
            test::want(bytes(tensors[i]), bytes(wanted[i]),
                       "broadcast_tensors, " + std::to_string(i));
        }
        want(tensors.back().requires_grad() && tensors.back().is_leaf(), "a leaf stays one");
    }
}

void check_equal_texts(Communicator& group) {
    using Named = std::vector<std::pair<std::string, std::string>>;
    check_equal(group, {{"config", std::string(1000, 'x')}, {"data", ""}}, "start");
    check_equal(group, {}, "nothing");
    if (group.world_size() == 1) {
        return;
    }
    const bool is_last = group.rank() + 1 == group.world_size();
    const std::string last = "rank " + std::to_string(group.world_size() - 1);
    const auto one = caught<RunError>([&] {
        check_equal(group, Named{{"config", is_last ? "secret" : "b"}, {"data", "c"}}, "start");
    });
    want(one && std::string(one->what())
                        .rfind("start: " + last + " differs from rank 0 in \"config\": ", 0) == 0,
         one ? one->what() : "a difference is not found");

    Named named{{"only here", ""}};
    for (const char* name : {"a", "b", "c", "d"}) {
        named.emplace_back(name, std::to_string(group.rank()));
    }
    named.erase(named.begin(), named.begin() + (is_last ? 0 : 1));
    const auto many = caught<RunError>([&] { check_equal(group, named, "start"); });
    want(many && std::string(many->what())
                         .find(last + " differs from rank 0 in \"a\", \"b\", "
                                      "\"c\" and 2 more") != std::string::npos,
         many ? many->what() : "differences are not found");
    if (group.world_size() == 4) {
        want(
            std::string(many->what())
                    .find("ranks 1 and 2 differ from rank 0 in \"a\", \"b\", \"c\" and 1 more; ") !=
                std::string::npos,
            many->what());
    }
}

}  // namespace

void check_collectives(Communicator& group) {
    check_texts(group);
    check_thrown_on_rank_0(group);
    check_broadcast_tensors(group);
    check_equal_texts(group);
}

}  // namespace matrix::test
