#pragma once

#include <memory>
#include <optional>
#include <string>

namespace matrix::eval {

/// What came of one attempt to ask a server.
struct HttpReply {
    long status = 0;  ///< 0: no complete reply came, and `fault` says why
    std::string body;
    std::string fault;
    bool unreachable = false;  ///< no connection was made at all
    std::optional<double> retry_after_seconds;
};

/// One POST of JSON text. May be called from several threads. Stopped where a stop was asked for
/// and the reply has not come soon after.
class Transport {
public:
    virtual ~Transport() = default;
    [[nodiscard]] virtual HttpReply post(const std::string& body) = 0;
};

struct Server {
    std::string api_base;  ///< "https://host/v1", "http://127.0.0.1:8000/v1"
    std::string key;       ///< goes into the header of requests, and nowhere else
    double timeout_seconds = 600.0;
};

/// UsageError unless `api_base` is an http or https URL without user, password, query or fragment,
/// which would end up in messages.
void check_api_base(const std::string& api_base);

/// POST to `api_base`/chat/completions by libcurl. Certificates are checked, redirects are not
/// followed. The key is struck out of whatever the server sends back. UsageError for a URL (see
/// check_api_base) or a key that no header can hold.
[[nodiscard]] std::unique_ptr<Transport> make_curl_transport(const Server& server);

}  // namespace matrix::eval
