#include "matrix/eval/vlm.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "eval/rate_limit.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix::eval {
namespace {

using Json = nlohmann::ordered_json;

HttpReply good(const std::string& content) {
    const Json message = {{"role", "assistant"}, {"content", content}};
    const Json body = {{"choices", Json::array({Json{{"message", message}}})},
                       {"usage", {{"prompt_tokens", 7}, {"completion_tokens", 3}}}};
    return {200, body.dump(), "", false, {}};
}

HttpReply status(long code, std::optional<double> retry_after = {}) {
    return {code, R"({"error": {"message": "said so"}})", "", false, retry_after};
}

HttpReply unreachable() {
    return {0, "", "Connection refused", true, {}};
}

/// Answers with the replies it was given, the last again and again, and keeps what was sent.
struct Script {
    std::deque<HttpReply> replies;
    std::vector<std::string> bodies;
    std::vector<double> slept;
    std::mutex mutex;
    std::atomic<int> hold_ms{0};
};

class ScriptedTransport final : public Transport {
public:
    explicit ScriptedTransport(Script& script) : script_(script) {}
    HttpReply post(const std::string& body) override {
        std::this_thread::sleep_for(std::chrono::milliseconds(script_.hold_ms));
        const std::lock_guard lock(script_.mutex);
        script_.bodies.push_back(body);
        HttpReply reply = script_.replies.front();
        if (script_.replies.size() > 1) {
            script_.replies.pop_front();
        }
        return reply;
    }

private:
    Script& script_;
};

class VlmClientTest : public ::testing::Test {
protected:
    VlmClient client(const AskingLimits& limits = {}) {
        return VlmClient(std::make_unique<ScriptedTransport>(script_),
                         ReplyCache(directory_.path()), limits, [this](double seconds) {
                             const std::lock_guard lock(script_.mutex);
                             script_.slept.push_back(seconds);
                         });
    }
    /// The value of "x" in the model's reply.
    static int ask(VlmClient& client, const Json& request) {
        int x = 0;
        client.ask(request, [&](const Json& content) {
            if (!content.contains("x")) {
                throw RunError("no x");
            }
            x = content.at("x").get<int>();
        });
        return x;
    }
    static Json request(const std::string& text) {
        return {{"model", "m"},
                {"seed", 42},
                {"messages", Json::array({Json{{"role", "user"}, {"content", text}}})}};
    }

    test::TempDirectory directory_;
    Script script_;
};

TEST(BackOff, DoublesUpToAMinuteAndHonoursTheServer) {
    EXPECT_EQ(back_off_seconds(1, 0.0, {}), 0.5);
    EXPECT_EQ(back_off_seconds(1, 1.0, {}), 1.0);
    EXPECT_EQ(back_off_seconds(4, 0.0, {}), 4.0);
    EXPECT_EQ(back_off_seconds(4, 0.5, {}), 6.0);
    EXPECT_EQ(back_off_seconds(7, 1.0, {}), 60.0);
    EXPECT_EQ(back_off_seconds(1000, 1.0, {}), 60.0);
    EXPECT_EQ(back_off_seconds(1, 0.0, 90.0), 90.0);
    EXPECT_EQ(back_off_seconds(5, 0.0, 2.0), 8.0);
}

TEST(RateLimit, SpacesTurnsAndHoldsThemBack) {
    RateLimit limit(120.0);
    const auto now = RateLimit::Clock::now();
    EXPECT_EQ(limit.take(now), 0.0);
    EXPECT_DOUBLE_EQ(limit.take(now), 0.5);
    EXPECT_DOUBLE_EQ(limit.take(now), 1.0);
    limit.hold_until(now + std::chrono::seconds(5));
    EXPECT_DOUBLE_EQ(limit.take(now), 5.0);
    RateLimit none(0.0);
    EXPECT_EQ(none.take(now), 0.0);
    EXPECT_EQ(none.take(now), 0.0);
}

TEST(RateLimit, TurnsThatNoClockCanCountToNeverComeEarly) {
    RateLimit limit(1e-10);
    const auto now = RateLimit::Clock::now();
    EXPECT_EQ(limit.take(now), 0.0);
    double before = 1e9;
    for (int i = 0; i < 5; ++i) {
        const double wait = limit.take(now);
        EXPECT_GE(wait, before);
        before = wait;
    }
    limit.hold_until(now + RateLimit::duration(1e300));
    EXPECT_GT(limit.take(now), 1e9);
}

TEST_F(VlmClientTest, AsksOnceAndThenTheCacheAnswersToo) {
    script_.replies = {good(R"({"x": 5})")};
    {
        VlmClient first = client();
        EXPECT_EQ(ask(first, request("a")), 5);
        EXPECT_EQ(ask(first, request("a")), 5);
        EXPECT_EQ(first.spending().input_tokens, 7);
        EXPECT_EQ(first.spending().output_tokens, 3);
    }
    VlmClient second = client();
    EXPECT_EQ(ask(second, request("a")), 5);
    EXPECT_EQ(second.spending().from_cache, 1);
    EXPECT_EQ(script_.bodies.size(), 1u);
    EXPECT_EQ(script_.bodies[0], request("a").dump());
}

TEST_F(VlmClientTest, TriesAgainAfterWhatPasses) {
    script_.replies = {
        status(500), status(429, 3.0), {0, "", "timed out", false, {}}, good(R"({"x": 1})")};
    VlmClient asked = client();
    EXPECT_EQ(ask(asked, request("a")), 1);
    ASSERT_EQ(script_.bodies.size(), 4u);
    EXPECT_GE(script_.slept.at(0), 0.5);
    EXPECT_LE(script_.slept.at(0), 1.0);
    EXPECT_GE(script_.slept.at(1), 3.0);  // Retry-After
    EXPECT_EQ(asked.spending().sent, 4);
}

TEST_F(VlmClientTest, GivesUpAfterItsRetriesAndLeavesNoReplyBehind) {
    script_.replies = {status(503)};
    AskingLimits limits;
    limits.retries = 2;
    VlmClient asked = client(limits);
    test::expect_error([&] { ask(asked, request("a")); }, {"503", "said so"});
    EXPECT_EQ(script_.bodies.size(), 3u);
    script_.replies = {good(R"({"x": 2})")};
    EXPECT_EQ(ask(asked, request("a")), 2);  // another request may fare better
}

TEST_F(VlmClientTest, DoesNotRepeatWhatTheServerRefuses) {
    script_.replies = {status(400), good(R"({"x": 2})")};
    VlmClient asked = client();
    test::expect_error([&] { ask(asked, request("a")); }, {"400"});
    EXPECT_EQ(script_.bodies.size(), 1u);
    EXPECT_EQ(ask(asked, request("b")), 2);
}

TEST_F(VlmClientTest, SendsNothingMoreAfterARefusedKey) {
    script_.replies = {status(401)};
    VlmClient asked = client();
    test::expect_error([&] { ask(asked, request("a")); }, {"401", "OPENAI_API_KEY"});
    test::expect_error([&] { ask(asked, request("b")); }, {"401", "OPENAI_API_KEY"});
    EXPECT_EQ(script_.bodies.size(), 1u);
}

TEST_F(VlmClientTest, SendsNothingMoreToAServerThatIsNotThere) {
    script_.replies = {unreachable()};
    AskingLimits limits;
    limits.retries = 1;
    VlmClient asked = client(limits);
    test::expect_error([&] { ask(asked, request("a")); }, {"cannot be reached", "refused"});
    test::expect_error([&] { ask(asked, request("b")); }, {"cannot be reached"});
    EXPECT_EQ(script_.bodies.size(), 2u);
}

TEST_F(VlmClientTest, MalformedRepliesAreKeptAndAskedForWithTheNextSeed) {
    script_.replies = {good("not JSON"), good(R"({"y": 1})"), good(R"({"x": 3})")};
    VlmClient asked = client();
    EXPECT_EQ(ask(asked, request("a")), 3);
    EXPECT_EQ(asked.spending().malformed, 2);
    ASSERT_EQ(script_.bodies.size(), 3u);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(Json::parse(script_.bodies[static_cast<std::size_t>(i)]).at("seed"), 42 + i);
    }
    Json first = request("a");
    EXPECT_NE(asked.cache().reply(ReplyCache::key(first))->find("not JSON"), std::string::npos);
    VlmClient again = client();
    EXPECT_EQ(ask(again, request("a")), 3);
    EXPECT_EQ(script_.bodies.size(), 3u);
}

TEST_F(VlmClientTest, ReportsWhereUnreadableRepliesLieAndDoesNotPayForThemAgain) {
    script_.replies = {good("[1")};
    AskingLimits limits;
    limits.reply_attempts = 2;
    VlmClient asked = client(limits);
    for (int run = 0; run < 2; ++run) {
        const std::string message =
            test::expect_error<MalformedReply>([&] { ask(asked, request("a")); }, {"2 attempts"});
        EXPECT_NE(message.find("reply.json"), std::string::npos);
    }
    EXPECT_EQ(script_.bodies.size(), 2u);
}

TEST_F(VlmClientTest, EqualRequestsUnderWayAreSentOnce) {
    script_.replies = {good(R"({"x": 9})")};
    script_.hold_ms = 100;
    VlmClient asked = client();
    std::atomic<int> sum{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; ++i) {
        threads.emplace_back([&] { sum += ask(asked, request("same")); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(sum, 54);
    EXPECT_EQ(script_.bodies.size(), 1u);
}

TEST(ApiBase, TakesPlainAddressesAlone) {
    for (const char* fine : {"https://api.openai.com/v1", "http://127.0.0.1:8000/v1/"}) {
        EXPECT_NO_THROW(check_api_base(fine)) << fine;
    }
    for (const char* wrong : {"", "api.openai.com", "ftp://x/v1", "http://", "http://a b/"}) {
        test::expect_error<UsageError>([&] { check_api_base(wrong); }, {"--api-base"});
    }
    const std::string message = test::expect_error<UsageError>(
        [] { check_api_base("ftp://user:secret@host/v1"); }, {"OPENAI_API_KEY"});
    EXPECT_EQ(message.find("secret"), std::string::npos);
    test::expect_error<UsageError>(
        [] {
            (void)make_curl_transport({"http://h/v1", "a\nb"});
        },
        {"OPENAI_API_KEY"});
}

}  // namespace
}  // namespace matrix::eval
