#pragma once

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace matrix::eval {

/// Requests to a vision-language model and their replies, on disk, so that nothing is asked, and
/// paid, twice:
///
///     pictures/<hash>.png, .jpg     by the content of their pixels, each once
///     <hash>/request.json           the body as it is sent, but pictures by their file's name
///     <hash>/reply.json             what the server sent back, byte for byte
///
/// A request's hash is that of its body; the server's address and the key are no part of it. Files
/// are complete or absent. May be used from several threads.
class ReplyCache {
public:
    explicit ReplyCache(std::filesystem::path directory);

    /// Stores a [H, W, 3] uint8 picture and returns the name by which a request refers to it.
    [[nodiscard]] std::string add_png(const at::Tensor& picture) const;
    [[nodiscard]] std::string add_jpeg(const at::Tensor& picture, int quality) const;

    /// The identity of a request whose pictures are names.
    [[nodiscard]] static std::string key(const nlohmann::ordered_json& request);
    /// Where a request and its reply lie, for messages.
    [[nodiscard]] std::filesystem::path folder(const std::string& key) const;

    [[nodiscard]] std::optional<std::string> reply(const std::string& key) const;
    void put_request(const std::string& key, const nlohmann::ordered_json& request) const;
    void put_reply(const std::string& key, std::string_view reply) const;

    /// The body to send: names of pictures replaced by their content, as data URLs.
    [[nodiscard]] std::string body(const nlohmann::ordered_json& request) const;

private:
    std::filesystem::path directory_;
};

}  // namespace matrix::eval
