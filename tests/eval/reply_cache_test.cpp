#include "matrix/eval/reply_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "matrix/core/files.h"
#include "matrix/core/markup.h"
#include "matrix/media/image.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::eval {
namespace {

using Json = nlohmann::ordered_json;

TEST(ReplyCache, KeepsEachPictureOnceByItsPixels) {
    const test::TempDirectory directory;
    const ReplyCache cache(directory.path());
    const at::Tensor red = at::zeros({4, 6, 3}, at::kByte);
    red.select(2, 0).fill_(255);
    const std::string name = cache.add_png(red);
    EXPECT_EQ(cache.add_png(red.clone()), name);
    EXPECT_NE(cache.add_png(red.transpose(0, 1)), name);  // the same bytes in another shape
    test::expect_equal(media::read_image(directory.path() / name), red, "picture");
}

TEST(ReplyCache, SendsPicturesAsDataAndKeysThemByName) {
    const test::TempDirectory directory;
    const ReplyCache cache(directory.path());
    const std::string png = cache.add_png(at::zeros({2, 2, 3}, at::kByte));
    const std::string jpeg = cache.add_jpeg(at::zeros({8, 8, 3}, at::kByte), 85);
    const auto picture = [](const std::string& url) {
        return Json{{"type", "image_url"}, {"image_url", {{"url", url}}}};
    };
    const Json content =
        Json::array({Json{{"type", "text"}, {"text", "look"}}, picture(png), picture(jpeg)});
    const Json request = {
        {"messages", Json::array({Json{{"role", "system"}, {"content", "be good"}},
                                  Json{{"role", "user"}, {"content", content}}})}};
    const Json sent = Json::parse(cache.body(request)).at("messages").at(1).at("content");
    EXPECT_EQ(sent.at(1).at("image_url").at("url"),
              "data:image/png;base64," + base64(read_text_file(directory.path() / png)));
    EXPECT_TRUE(sent.at(2)
                    .at("image_url")
                    .at("url")
                    .get<std::string>()
                    .starts_with("data:image/jpeg;base64,/9j/"));

    const std::string key = ReplyCache::key(request);
    EXPECT_FALSE(cache.reply(key));
    cache.put_request(key, request);
    EXPECT_FALSE(cache.reply(key));
    cache.put_reply(key, "{ not even JSON");
    EXPECT_EQ(cache.reply(key), "{ not even JSON");
    EXPECT_EQ(Json::parse(read_text_file(cache.folder(key) / "request.json")), request);
}

}  // namespace
}  // namespace matrix::eval
