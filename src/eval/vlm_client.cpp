#include <algorithm>
#include <cmath>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "eval/json_reading.h"
#include "eval/rate_limit.h"
#include "eval/replies.h"
#include "matrix/core/signals.h"
#include "matrix/eval/vlm.h"
#include "matrix/log/log.h"

namespace matrix::eval {
namespace {

using Clock = RateLimit::Clock;

constexpr double kLongestBackOff = 60.0;

void stop_if_asked() {
    if (const auto signal = stop_signal()) {
        throw Stopped{*signal};
    }
}

void sleep_until_signal(double seconds) {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (Clock::now() < end) {
        stop_if_asked();
        std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(
            std::chrono::milliseconds(100), end - Clock::now()));
    }
}

bool is_worth_a_retry(const HttpReply& reply) {
    return reply.status == 0 || reply.status == 408 || reply.status == 429 || reply.status >= 500;
}

/// What no other request would fare better with.
bool is_final(const HttpReply& reply) {
    return reply.unreachable || reply.status == 401 || reply.status == 403 || reply.status == 404;
}

std::string describe(const HttpReply& reply) {
    if (reply.status == 0) {
        return (reply.unreachable ? "the server cannot be reached: " : "no reply: ") + reply.fault;
    }
    std::string text = "the server answered " + std::to_string(reply.status);
    switch (reply.status) {
        case 401:
        case 403:
            text += " (it does not take OPENAI_API_KEY)";
            break;
        case 404:
            text += " (no such address or model: look at --api-base and --vlm)";
            break;
        case 429:
            text += " (too many requests: see --requests-per-minute, --concurrency, or the quota)";
            break;
        default:
            break;
    }
    const std::string said = server_message(reply.body);
    return text + (said.empty() ? "" : ": " + said);
}

}  // namespace

double back_off_seconds(std::int64_t retry, double jitter,
                        std::optional<double> retry_after_seconds) {
    const double whole = std::min(
        kLongestBackOff, std::exp2(static_cast<double>(std::min<std::int64_t>(retry, 30) - 1)));
    return std::max(whole * (0.5 + 0.5 * jitter), retry_after_seconds.value_or(0.0));
}

struct VlmClient::Impl {
    Impl(std::unique_ptr<Transport> transport_in, ReplyCache cache_in,
         const AskingLimits& limits_in, Sleep sleep_in)
        : transport(std::move(transport_in)),
          cache(std::move(cache_in)),
          limits(limits_in),
          sleep(sleep_in ? std::move(sleep_in) : Sleep(sleep_until_signal)),
          rate(limits_in.requests_per_minute) {}

    std::unique_ptr<Transport> transport;
    ReplyCache cache;
    AskingLimits limits;
    Sleep sleep;
    RateLimit rate;

    std::mutex mutex;  ///< of what follows
    std::map<std::string, std::shared_future<std::string>> under_way;
    Spending spending;
    std::string closed;  ///< why nothing is sent any more
    std::int64_t num_replies = 0;
    std::minstd_rand random{std::random_device{}()};

    double jitter() {
        const std::lock_guard lock(mutex);
        return std::uniform_real_distribution<double>(0.0, 1.0)(random);
    }

    HttpReply post_in_turn(const std::string& body) {
        if (const double wait = rate.take(Clock::now()); wait > 0.0) {
            sleep(wait);
        }
        stop_if_asked();
        {
            const std::lock_guard lock(mutex);
            if (!closed.empty()) {
                throw RunError(closed);
            }
            ++spending.sent;
        }
        HttpReply reply = transport->post(body);
        const std::lock_guard lock(mutex);
        num_replies += reply.status != 0 ? 1 : 0;
        return reply;
    }

    [[noreturn]] void give_up(const HttpReply& reply, std::int64_t replies_before) {
        const std::string reason = describe(reply);
        const std::lock_guard lock(mutex);
        // One that others were answered beside is this request's own misfortune.
        if (is_final(reply) && (!reply.unreachable || num_replies == replies_before)) {
            closed = reason;
        }
        throw RunError(reason);
    }

    std::string send(const std::string& body) {
        std::int64_t replies_before = 0;
        {
            const std::lock_guard lock(mutex);
            replies_before = num_replies;
        }
        for (std::int64_t retry = 1;; ++retry) {
            HttpReply reply = post_in_turn(body);
            if (reply.status == 200) {
                return std::move(reply.body);
            }
            if (!is_worth_a_retry(reply) || retry > limits.retries) {
                give_up(reply, replies_before);
            }
            const double wait = back_off_seconds(retry, jitter(), reply.retry_after_seconds);
            log::info(describe(reply) + "; asking again in " + std::to_string(std::lround(wait)) +
                      " s (" + std::to_string(retry) + " of " + std::to_string(limits.retries) +
                      ")");
            if (reply.status == 429 && reply.retry_after_seconds) {
                rate.hold_until(Clock::now() + RateLimit::duration(wait));
            }
            sleep(wait);
        }
    }

    std::string fetch(const std::string& key, const Json& request) {
        if (auto there = cache.reply(key)) {
            const std::lock_guard lock(mutex);
            ++spending.from_cache;
            return *std::move(there);
        }
        cache.put_request(key, request);
        std::string reply = send(cache.body(request));
        cache.put_reply(key, reply);
        const Tokens tokens = tokens_of(reply);
        const std::lock_guard lock(mutex);
        spending.input_tokens += tokens.input;
        spending.output_tokens += tokens.output;
        return reply;
    }

    /// The reply to a request, by whichever thread asks first.
    std::string reply_to(const std::string& key, const Json& request) {
        std::promise<std::string> promise;
        std::shared_future<std::string> other;
        {
            const std::lock_guard lock(mutex);
            const auto [place, first] = under_way.try_emplace(key, promise.get_future().share());
            if (!first) {
                other = place->second;
            }
        }
        if (other.valid()) {
            return other.get();
        }
        const auto done = [&] {
            const std::lock_guard lock(mutex);
            under_way.erase(key);
        };
        try {
            std::string reply = fetch(key, request);
            promise.set_value(reply);
            done();
            return reply;
        } catch (...) {
            promise.set_exception(std::current_exception());
            done();
            throw;
        }
    }
};

VlmClient::VlmClient(std::unique_ptr<Transport> transport, ReplyCache cache,
                     const AskingLimits& limits, Sleep sleep)
    : impl_(std::make_unique<Impl>(std::move(transport), std::move(cache), limits,
                                   std::move(sleep))) {}

VlmClient::~VlmClient() = default;

void VlmClient::ask(const Json& request, const Reader& read) {
    Json attempt = request;
    const auto seed = request.at("seed").get<std::int64_t>();
    std::string reason;
    std::string key;
    for (std::int64_t i = 0; i < impl_->limits.reply_attempts; ++i) {
        attempt["seed"] = seed + i;
        key = ReplyCache::key(attempt);
        const std::string reply = impl_->reply_to(key, attempt);
        try {
            read(content_of(reply));
            return;
        } catch (const RunError& fault) {
            reason = fault.what();
            log::warning("malformed reply (" + reason + "), kept in " +
                         (impl_->cache.folder(key) / "reply.json").string());
            const std::lock_guard lock(impl_->mutex);
            ++impl_->spending.malformed;
        }
    }
    throw MalformedReply("no readable reply in " + std::to_string(impl_->limits.reply_attempts) +
                         " attempts (the last: " + reason + "), kept in " +
                         (impl_->cache.folder(key) / "reply.json").string());
}

Spending VlmClient::spending() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->spending;
}

const ReplyCache& VlmClient::cache() const {
    return impl_->cache;
}

}  // namespace matrix::eval
