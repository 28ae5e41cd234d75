#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/data_cache/file_hashes.h"

#include <filesystem>
#include <map>
#include <string>

// Every entry of the cache is named by the hash of all that it was made from, so an entry under its
// name is never stale: what changes (a file, a setting, an encoder) asks for another name.

namespace matrix::data_cache {

/// The format of entries and index; part of every key.
inline constexpr int kFormatVersion = 1;

/// What the encoders are: hashes of their files together with the dtype they run in. Empty: not
/// known here.
struct EncoderIds {
    std::string vae;   ///< vae/config.json and its weights
    std::string text;  ///< text_encoder/ and tokenizer/
};

/// Ids of a model directory's encoders. One whose weights are not there gets an empty id, whatever
/// else stands in its folder (training reads vae/config.json by itself), and so does a text encoder
/// without a tokenizer. `dtype`: "float32", "bfloat16".
[[nodiscard]] EncoderIds encoder_ids(const std::filesystem::path& model, const std::string& dtype,
                                     FileHashes& hashes);

/// The files a clip is made from, by content.
struct ClipHashes {
    std::string video;
    std::map<std::string, std::string>
        masks;  ///< folder ("<id1>") to the hash of its files in order
};

[[nodiscard]] std::string video_key(const DataConfig& config, const ClipHashes& clip,
                                    const EncoderIds& encoders);
[[nodiscard]] std::string masks_key(const DataConfig& config, const ClipHashes& clip);
[[nodiscard]] std::string id_map_key(const DataConfig& config, const ClipHashes& clip,
                                     const EncoderIds& encoders);
/// `text` as the tokenizer gets it.
[[nodiscard]] std::string prompt_key(const std::string& text, const EncoderIds& encoders);

}  // namespace matrix::data_cache
