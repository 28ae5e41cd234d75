#pragma once

#include "matrix/distributed/communicator.h"

#include <cstddef>
#include <string>
#include <vector>

namespace matrix::prepare {

/// The processes that fill one cache: what is missing goes round them, and they wait for one
/// another after every clip, so that none waits longer than a clip takes.
class Crew {
public:
    /// Null: one process.
    explicit Crew(distributed::Communicator* ranks) : ranks_(ranks) {}

    [[nodiscard]] std::size_t rank() const { return ranks_ == nullptr ? 0 : ranks_->rank(); }
    [[nodiscard]] std::size_t size() const { return ranks_ == nullptr ? 1 : ranks_->world_size(); }
    [[nodiscard]] bool is_main() const { return rank() == 0; }

    /// Every size()-th entry from the own one on.
    template <typename T>
    [[nodiscard]] std::vector<T> share(const std::vector<T>& all) const {
        std::vector<T> own;
        for (std::size_t i = rank(); i < all.size(); i += size()) {
            own.push_back(all[i]);
        }
        return own;
    }

    /// Waits for the others; throws Stopped on all where one was sent a signal.
    void meet(const std::string& what) const;
    /// The lines of all, by rank.
    [[nodiscard]] std::vector<std::string> gather(const std::vector<std::string>& own) const;

private:
    distributed::Communicator* ranks_;
};

}  // namespace matrix::prepare
