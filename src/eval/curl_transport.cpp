#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "eval/secret.h"
#include "matrix/core/error.h"
#include "matrix/core/signals.h"
#include "matrix/eval/transport.h"

namespace matrix::eval {
namespace {

constexpr std::size_t kMaxReplyBytes = std::size_t{32} << 20;
constexpr long kConnectSeconds = 20;
/// After a stop signal, for a reply that is under way, and will be paid for.
constexpr std::chrono::seconds kLastWait{5};

struct FreeHandle {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
using Handle = std::unique_ptr<CURL, FreeHandle>;

struct FreeList {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct FreeUrl {
    void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Headers = std::unique_ptr<curl_slist, FreeList>;

std::size_t take(char* data, std::size_t, std::size_t bytes, void* target) {
    auto& body = *static_cast<std::string*>(target);
    if (body.size() + bytes > kMaxReplyBytes) {
        return 0;
    }
    body.append(data, bytes);
    return bytes;
}

using Clock = std::chrono::steady_clock;

/// libcurl calls it every second or oftener; anything but 0 ends the request.
int keep_waiting(void* target, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto& stopped_at = *static_cast<std::optional<Clock::time_point>*>(target);
    if (!stop_signal()) {
        return 0;
    }
    stopped_at = stopped_at.value_or(Clock::now());
    return Clock::now() - *stopped_at < kLastWait ? 0 : 1;
}

template <typename Value>
void set(CURL* handle, CURLoption option, Value value) {
    if (curl_easy_setopt(handle, option, value) != CURLE_OK) {
        throw RunError("libcurl refuses option " + std::to_string(option) +
                       "; version 7.85 or newer is wanted");
    }
}

bool never_connected(CURLcode code) {
    return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
           code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_PEER_FAILED_VERIFICATION ||
           code == CURLE_SSL_CONNECT_ERROR;
}

class CurlTransport final : public Transport {
public:
    explicit CurlTransport(const Server& server)
        : key_(server.key),
          url_(server.api_base + (server.api_base.ends_with('/') ? "" : "/") + "chat/completions"),
          timeout_seconds_(server.timeout_seconds) {
        static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
        if (started != CURLE_OK) {
            throw RunError(std::string("libcurl does not start: ") + curl_easy_strerror(started));
        }
        for (const std::string& line :
             {"Authorization: Bearer " + key_, std::string("Content-Type: application/json"),
              std::string("Expect:")}) {
            headers_.reset(curl_slist_append(headers_.release(), line.c_str()));
        }
    }

    HttpReply post(const std::string& body) override {
        Handle handle = borrow();
        HttpReply reply;
        char detail[CURL_ERROR_SIZE] = "";
        prepare(handle.get(), body, reply, detail);
        std::optional<Clock::time_point> stopped_at;
        set(handle.get(), CURLOPT_NOPROGRESS, 0L);
        set(handle.get(), CURLOPT_XFERINFOFUNCTION, &keep_waiting);
        set(handle.get(), CURLOPT_XFERINFODATA, static_cast<void*>(&stopped_at));
        const CURLcode code = curl_easy_perform(handle.get());
        if (code == CURLE_ABORTED_BY_CALLBACK) {
            throw Stopped{stop_signal().value()};
        }
        if (code == CURLE_OK) {
            curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &reply.status);
            curl_off_t wait = 0;
            curl_easy_getinfo(handle.get(), CURLINFO_RETRY_AFTER, &wait);
            if (wait > 0) {
                reply.retry_after_seconds = static_cast<double>(wait);
            }
        } else {
            reply.fault = code == CURLE_WRITE_ERROR ? "the reply is larger than 32 MiB"
                          : detail[0] != '\0'       ? detail
                                                    : curl_easy_strerror(code);
            reply.unreachable = never_connected(code);
            reply.body.clear();
        }
        give_back(std::move(handle));
        reply.body = without_secret(reply.body, key_);
        reply.fault = without_secret(reply.fault, key_);
        return reply;
    }

private:
    void prepare(CURL* handle, const std::string& body, HttpReply& reply, char* detail) const {
        curl_easy_reset(handle);
        set(handle, CURLOPT_URL, url_.c_str());
        set(handle, CURLOPT_PROTOCOLS_STR, "http,https");
        set(handle, CURLOPT_HTTPHEADER, headers_.get());
        set(handle, CURLOPT_POSTFIELDS, body.data());
        set(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
        set(handle, CURLOPT_WRITEFUNCTION, &take);
        set(handle, CURLOPT_WRITEDATA, static_cast<void*>(&reply.body));
        set(handle, CURLOPT_ERRORBUFFER, detail);
        set(handle, CURLOPT_NOSIGNAL, 1L);
        set(handle, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
        set(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout_seconds_ * 1000.0));
    }

    Handle borrow() {
        const std::lock_guard lock(mutex_);
        if (idle_.empty()) {
            return Handle(curl_easy_init());
        }
        Handle handle = std::move(idle_.back());
        idle_.pop_back();
        return handle;
    }

    /// An idle handle keeps its connection for the next request.
    void give_back(Handle handle) {
        const std::lock_guard lock(mutex_);
        idle_.push_back(std::move(handle));
    }

    std::string key_;
    std::string url_;
    double timeout_seconds_;
    Headers headers_;
    std::mutex mutex_;
    std::vector<Handle> idle_;
};

}  // namespace

void check_api_base(const std::string& api_base) {
    if (api_base.find_first_of("@?#") != std::string::npos) {
        throw UsageError(
            "--api-base: no user name, password, query or fragment belongs there; the key comes "
            "from the environment variable OPENAI_API_KEY");
    }
    const bool web = api_base.starts_with("http://") || api_base.starts_with("https://");
    const bool plain =
        std::all_of(api_base.begin(), api_base.end(), [](char c) { return c > ' ' && c < 127; });
    const std::unique_ptr<CURLU, FreeUrl> url(curl_url());
    if (!web || !plain ||
        curl_url_set(url.get(), CURLUPART_URL, api_base.c_str(), 0) != CURLUE_OK) {
        throw UsageError("--api-base " + api_base +
                         ": an address like https://api.openai.com/v1 or "
                         "http://127.0.0.1:8000/v1 was expected");
    }
}

std::unique_ptr<Transport> make_curl_transport(const Server& server) {
    check_api_base(server.api_base);
    if (!std::all_of(server.key.begin(), server.key.end(),
                     [](char c) { return c > ' ' && c < 127; })) {
        throw UsageError(
            "OPENAI_API_KEY holds a space, a line break or a character that is not ASCII, which no "
            "key has");
    }
    return std::make_unique<CurlTransport>(server);
}

}  // namespace matrix::eval
