#include "distributed/store_reader.h"

#include <exception>
#include <future>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <utility>

namespace matrix::distributed {

struct StoreReader::Connection {
    c10::intrusive_ptr<c10d::Store> store;
    std::timed_mutex mutex;
};

StoreReader::StoreReader(c10::intrusive_ptr<c10d::Store> store)
    : connection_(std::make_shared<Connection>()) {
    connection_->store = std::move(store);
}

std::string StoreReader::read(std::function<std::string(c10d::Store&)> look,
                              std::chrono::milliseconds limit) const {
    std::promise<std::string> promise;
    std::future<std::string> answer = promise.get_future();
    std::thread reader([connection = connection_, look = std::move(look), limit,
                        promise = std::move(promise)]() mutable {
        try {
            // Held by a thread that was left to itself where the store had stopped before.
            const std::unique_lock lock(connection->mutex, limit);
            if (!lock) {
                throw std::runtime_error("no answer");
            }
            promise.set_value(look(*connection->store));
        } catch (...) {
            promise.set_exception(std::current_exception());
        }
    });
    if (answer.wait_for(limit) != std::future_status::ready) {
        reader.detach();
        throw std::runtime_error("no answer");
    }
    reader.join();
    return answer.get();
}

}  // namespace matrix::distributed
