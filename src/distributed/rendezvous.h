#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "distributed/phase_board.h"
#include "distributed/rank_state.h"
#include "matrix/distributed/environment.h"

namespace c10d {
class Store;
}

namespace matrix::distributed {

/// The group's store: c10d's TCPStore on rank 0, or the launcher's. Where ranks meet, write their
/// states, look why an exchange failed, and part.
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

    /// Why it failed, in one line; the first rank's answer is everybody's. Takes a second or two,
    /// and four where the store does not answer.
    [[nodiscard]] std::string explain(const FailedExchange& failed) const;

    /// Shortens the wait for the others on leaving.
    void set_failed() { failed_ = true; }

private:
    void connect();
    void wait_for_all();
    void wait_until_all_left() const;

    Environment environment_;
    std::chrono::milliseconds timeout_;
    bool failed_ = false;
    bool hosts_store_;
    c10::intrusive_ptr<c10d::Store> store_;
    std::unique_ptr<PhaseBoard> board_;
};

}  // namespace matrix::distributed
