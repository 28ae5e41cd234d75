#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "distributed/phase_board.h"
#include "distributed/rank_state.h"
#include "distributed/store_reader.h"
#include "matrix/distributed/environment.h"

namespace c10d {
class Store;
}

namespace matrix::distributed {

/// The run's store: c10d's TCPStore on rank 0, or the launcher's. Where ranks meet, write their
/// states, look why an exchange failed, and part. One for all groups of a process; a failure in one
/// of them is one of all.
class Rendezvous {
public:
    /// Returns when all ranks are there. RunError that names the missing ones after the timeout.
    Rendezvous(const Environment& environment, std::chrono::milliseconds timeout);
    ~Rendezvous();
    Rendezvous(const Rendezvous&) = delete;
    Rendezvous& operator=(const Rendezvous&) = delete;

    /// For the backend too, whose use of it may block: states are written on another connection.
    [[nodiscard]] const c10::intrusive_ptr<c10d::Store>& store() const { return store_; }
    [[nodiscard]] PhaseBoard& board() { return *board_; }

    /// Says that this rank is at `place`, and returns when all of `ranks` are. Throws where one of
    /// them has left, or has given no sign of life for the timeout.
    void meet(const std::string& place, const std::vector<int>& ranks) const;

    /// Why the exchange failed, in one line; the first rank's answer is everybody's, and failure()
    /// from then on. Takes a second or two, and four where the store does not answer. Any thread.
    std::string fail(const FailedExchange& failed);
    /// What an exchange of this rank failed with. Any thread.
    [[nodiscard]] std::optional<std::string> failure() const;

    /// Of Communicator; takes as long as fail(). Any thread.
    [[nodiscard]] std::string phases() const;

private:
    void connect();
    void wait_for_all();
    void wait_until_all_left() const;
    void set_failure(const std::string& message);

    Environment environment_;
    std::chrono::milliseconds timeout_;
    bool hosts_store_;
    mutable std::mutex mutex_;
    std::optional<std::string> failure_;
    c10::intrusive_ptr<c10d::Store> store_;
    std::optional<StoreReader> reader_;
    std::unique_ptr<PhaseBoard> board_;
};

}  // namespace matrix::distributed
