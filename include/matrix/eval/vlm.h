#pragma once

#include <nlohmann/json_fwd.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "matrix/core/error.h"
#include "matrix/eval/reply_cache.h"
#include "matrix/eval/transport.h"

namespace matrix::eval {

struct AskingLimits {
    std::int64_t retries = 5;          ///< after a request that failed: 429, 408, 5xx, no reply
    std::int64_t reply_attempts = 3;   ///< replies asked for until one can be read
    double requests_per_minute = 0.0;  ///< 0: as fast as replies come
};

/// Seconds to wait before attempt `retry` (1, 2, ...) of a request that failed: 1, 2, 4, ... up to
/// 60, of which `jitter` in [0, 1) leaves between half and all; never less than the server asked
/// for.
[[nodiscard]] double back_off_seconds(std::int64_t retry, double jitter,
                                      std::optional<double> retry_after_seconds);

/// A reply that came, was kept, and cannot be read.
class MalformedReply : public RunError {
public:
    using RunError::RunError;
};

struct Spending {
    std::int64_t sent = 0;          ///< requests, retries included
    std::int64_t from_cache = 0;    ///< replies that were there
    std::int64_t malformed = 0;     ///< replies that came in this run and could not be read
    std::int64_t input_tokens = 0;  ///< as the server counted them
    std::int64_t output_tokens = 0;
};

/// Asks a vision-language model, through a cache. May be used from several threads: equal requests
/// that are under way together are sent once.
class VlmClient {
public:
    /// Waits so long, or until a stop signal; exchangeable for tests.
    using Sleep = std::function<void(double seconds)>;

    VlmClient(std::unique_ptr<Transport> transport, ReplyCache cache, const AskingLimits& limits,
              Sleep sleep = {});
    ~VlmClient();
    VlmClient(const VlmClient&) = delete;
    VlmClient& operator=(const VlmClient&) = delete;

    /// Takes what the model wrote; throws RunError where it is not what was asked for.
    using Reader = std::function<void(const nlohmann::ordered_json& content)>;

    /// Sends `request` (a chat completion with a `seed`, pictures by their names in the cache)
    /// until `read` takes what comes back; every further attempt has the next seed. Replies that
    /// cannot be read stay in the cache, so that a second run meets them there and does not ask
    /// again. RunError: the server refuses, or fails for good, or no reply could be read. After a
    /// refused key, an unknown model or a server that is not there, all further requests fail at
    /// once.
    void ask(const nlohmann::ordered_json& request, const Reader& read);

    [[nodiscard]] Spending spending() const;
    [[nodiscard]] const ReplyCache& cache() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace matrix::eval
