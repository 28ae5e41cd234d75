#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace c10d {
class Store;
}

namespace matrix::distributed {

/// Looks into a store that may have stopped answering, for which c10d has no time-out, on a
/// connection that nobody else uses. Any thread; one after the other.
class StoreReader {
public:
    explicit StoreReader(c10::intrusive_ptr<c10d::Store> store);

    /// What `look` returns or throws; it runs on a thread of its own, which is left to itself, with
    /// an exception here, when it has not ended within `limit`.
    [[nodiscard]] std::string read(std::function<std::string(c10d::Store&)> look,
                                   std::chrono::milliseconds limit) const;

private:
    struct Connection;
    std::shared_ptr<Connection> connection_;
};

}  // namespace matrix::distributed
