#include "matrix/distributed/collective.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <exception>
#include <map>

#include "distributed/messages.h"
#include "distributed/packed_texts.h"
#include "matrix/core/error.h"

namespace matrix::distributed {
namespace {

at::Tensor to_bytes(const std::string& text, at::Device device) {
    const auto size = static_cast<std::int64_t>(text.size());
    const at::Tensor bytes = at::empty({size}, at::kByte);
    std::copy(text.begin(), text.end(), bytes.data_ptr<std::uint8_t>());
    return bytes.to(device);
}

std::string to_text(const at::Tensor& bytes) {
    const at::Tensor here = bytes.cpu().contiguous();
    const auto* data = here.data_ptr<std::uint8_t>();
    return {data, data + here.numel()};
}

/// Work::wait() does not stop a GPU's host, which must not read what a failed exchange left.
void finish(Communicator& group, Work& work, std::string_view what) {
    work.wait();
    if (group.device().is_cuda()) {
        group.barrier(what);
    }
}

/// Rank 0's text, on every rank.
std::string broadcast_text(Communicator& group, const std::string& text, std::string_view what) {
    const at::TensorOptions options(group.device());
    at::Tensor length =
        at::full({1}, static_cast<std::int64_t>(text.size()), options.dtype(at::kLong));
    finish(group, *group.broadcast(length, 0, what), what);
    at::Tensor bytes = group.rank() == 0
                           ? to_bytes(text, group.device())
                           : at::empty({length.item<std::int64_t>()}, options.dtype(at::kByte));
    if (bytes.numel() > 0) {
        finish(group, *group.broadcast(bytes, 0, what), what);
    }
    return to_text(bytes);
}

constexpr const char* kResult = "result";
constexpr const char* kRunError = "RunError";
constexpr const char* kUsageError = "UsageError";

/// What rank 0 tells the others of an exception: its kind, then its faults.
std::vector<std::string> told(const std::exception_ptr& thrown, std::string_view what) {
    try {
        std::rethrow_exception(thrown);
    } catch (const Error& error) {
        const bool is_usage = dynamic_cast<const UsageError*>(&error) != nullptr;
        std::vector<std::string> texts = error.faults();
        texts.insert(texts.begin(), is_usage ? kUsageError : kRunError);
        return texts;
    } catch (const std::exception& error) {
        return {kRunError, std::string(what) + " failed on rank 0: " + first_line(error.what())};
    } catch (...) {
        return {kRunError, std::string(what) + " failed on rank 0, see its log"};
    }
}

std::string some_names(const std::vector<std::string>& names) {
    constexpr std::size_t kShown = 3;
    std::string text;
    for (std::size_t i = 0; i < std::min(kShown, names.size()); ++i) {
        text += (i > 0 ? ", \"" : "\"") + names[i] + "\"";
    }
    return names.size() > kShown ? text + " and " + std::to_string(names.size() - kShown) + " more"
                                 : text;
}

}  // namespace

std::vector<std::string> gather_text(Communicator& group, const std::string& own,
                                     std::string_view what) {
    const at::TensorOptions options(group.device());
    const int world = group.world_size();
    const auto length = static_cast<std::int64_t>(own.size());
    at::Tensor lengths = at::empty({world, 1}, options.dtype(at::kLong));
    finish(group, *group.all_gather(lengths, at::full({1}, length, lengths.options()), what), what);
    lengths = lengths.cpu();
    const auto longest = lengths.max().item<std::int64_t>();
    at::Tensor padded = at::zeros({longest}, options.dtype(at::kByte));
    padded.narrow(0, 0, length).copy_(to_bytes(own, group.device()));
    at::Tensor all = at::empty({world, longest}, padded.options());
    if (longest > 0) {
        finish(group, *group.all_gather(all, padded, what), what);
    }
    std::vector<std::string> texts;
    for (int rank = 0; rank < world; ++rank) {
        texts.push_back(to_text(all[rank].narrow(0, 0, lengths[rank].item<std::int64_t>())));
    }
    return texts;
}

std::string from_rank_0(Communicator& group, const std::function<std::string()>& decide,
                        std::string_view what) {
    std::vector<std::string> texts;
    std::exception_ptr thrown;
    if (group.rank() == 0) {
        group.set_phase(what);
        try {
            texts = {kResult, decide()};
        } catch (...) {
            thrown = std::current_exception();
            texts = told(thrown, what);
        }
    }
    texts = unpack_texts(broadcast_text(group, pack_texts(texts), what));
    if (thrown) {
        std::rethrow_exception(thrown);
    }
    const std::string kind = texts.at(0);
    texts.erase(texts.begin());
    if (kind == kRunError) {
        throw RunError(texts);
    }
    if (kind == kUsageError) {
        throw UsageError(texts);
    }
    return texts.at(0);
}

void check_equal(Communicator& group,
                 const std::vector<std::pair<std::string, std::string>>& named_texts,
                 std::string_view what) {
    std::vector<std::string> own;
    for (const auto& [name, text] : named_texts) {
        own.push_back(pack_texts({name, text}));
    }
    std::map<std::string, std::string> unmatched(named_texts.begin(), named_texts.end());
    TORCH_CHECK(unmatched.size() == named_texts.size(), what, ": a name stands there twice");
    std::vector<std::string> different;
    for (const std::string& pair : unpack_texts(broadcast_text(group, pack_texts(own), what))) {
        const std::vector<std::string> wanted = unpack_texts(pair);
        const auto found = unmatched.find(wanted.at(0));
        if (found == unmatched.end() || found->second != wanted.at(1)) {
            different.push_back(wanted.at(0));
        }
        unmatched.erase(wanted.at(0));
    }
    for (const auto& [name, text] : unmatched) {
        different.push_back(name);
    }

    std::map<std::string, std::vector<int>> ranks_by_difference;
    const std::vector<std::string> all = gather_text(group, some_names(different), what);
    for (int rank = 0; rank < group.world_size(); ++rank) {
        if (!all[rank].empty()) {
            ranks_by_difference[all[rank]].push_back(rank);
        }
    }
    std::string message;
    for (const auto& [names, ranks] : ranks_by_difference) {
        message += (message.empty() ? "" : "; ") + name_ranks(ranks) +
                   (ranks.size() == 1 ? " differs" : " differ") + " from rank 0 in " + names;
    }
    if (!message.empty()) {
        throw RunError(std::string(what) + ": " + message +
                       ": start all ranks with the same program, configuration and files");
    }
}

}  // namespace matrix::distributed
