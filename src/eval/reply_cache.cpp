#include "matrix/eval/reply_cache.h"

#include <ATen/core/Tensor.h>

#include <utility>

#include "eval/json_reading.h"
#include "matrix/core/files.h"
#include "matrix/core/markup.h"
#include "matrix/media/image.h"

namespace matrix::eval {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMaxReplyBytes = std::size_t{64} << 20;

std::string pixel_hash(const at::Tensor& picture) {
    const at::Tensor pixels = picture.contiguous();
    std::string bytes = std::to_string(pixels.size(0)) + "x" + std::to_string(pixels.size(1)) + ":";
    bytes.append(static_cast<const char*>(pixels.const_data_ptr()), pixels.nbytes());
    return hash_text(bytes);
}

/// Calls `change` with every picture's name in a request's messages.
template <typename Change>
void for_each_picture(Json& request, Change&& change) {
    for (Json& message : request.at("messages")) {
        if (!message.at("content").is_array()) {
            continue;
        }
        for (Json& part : message.at("content")) {
            if (part.at("type") == "image_url") {
                change(part.at("image_url").at("url"));
            }
        }
    }
}

}  // namespace

ReplyCache::ReplyCache(fs::path directory) : directory_(std::move(directory)) {}

std::string ReplyCache::add_png(const at::Tensor& picture) const {
    const std::string name = "pictures/" + pixel_hash(picture) + ".png";
    if (!fs::exists(directory_ / name)) {
        media::write_png(directory_ / name, picture);
    }
    return name;
}

std::string ReplyCache::add_jpeg(const at::Tensor& picture, int quality) const {
    const std::string name =
        "pictures/" + pixel_hash(picture) + "-" + std::to_string(quality) + ".jpg";
    if (!fs::exists(directory_ / name)) {
        write_file_atomically(directory_ / name, media::encode_jpeg(picture, quality));
    }
    return name;
}

std::string ReplyCache::key(const Json& request) {
    return hash_text(request.dump());
}

fs::path ReplyCache::folder(const std::string& key) const {
    return directory_ / key;
}

std::optional<std::string> ReplyCache::reply(const std::string& key) const {
    const fs::path path = folder(key) / "reply.json";
    if (!fs::exists(path)) {
        return std::nullopt;
    }
    return read_text_file(path, kMaxReplyBytes);
}

void ReplyCache::put_request(const std::string& key, const Json& request) const {
    write_json(folder(key) / "request.json", request);
}

void ReplyCache::put_reply(const std::string& key, std::string_view reply) const {
    write_file_atomically(folder(key) / "reply.json", reply);
}

std::string ReplyCache::body(const Json& request) const {
    Json sent = request;
    for_each_picture(sent, [&](Json& url) {
        const auto name = url.get<std::string>();
        const char* type = name.ends_with(".jpg") ? "image/jpeg" : "image/png";
        url = std::string("data:") + type + ";base64," +
              base64(read_text_file(directory_ / name, std::size_t{1} << 30));
    });
    return sent.dump();
}

}  // namespace matrix::eval
