#pragma once

#include "matrix/data_cache/entries.h"
#include "matrix/data_cache/index.h"
#include "matrix/data_cache/sample.h"

#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string>

namespace matrix::data_cache {

/// A prepared cache as training reads it. Entries are mapped as they are asked for, and compared
/// with their checksums the first time: damage is a RunError naming the file, never a sample. Any
/// number of threads may call `get`. Needs neither the data set nor the encoders.
class CacheReader final : public SampleSource {
public:
    /// RunError with every fault at once: a setting of `config` or an encoder other than the cache
    /// was made with (empty ids are not compared), an entry that is missing or truncated.
    /// `nearest_query`: alignment.spa.query = "nearest".
    CacheReader(std::filesystem::path cache, const DataConfig& config, const EncoderIds& encoders,
                bool nearest_query);

    [[nodiscard]] std::int64_t size() const override;
    [[nodiscard]] std::string fingerprint() const override;
    [[nodiscard]] EncodedSample get(std::int64_t index, std::uint64_t seed,
                                    std::uint64_t sample_number) const override;
    [[nodiscard]] at::Tensor empty_prompt() const override;

    /// Rows that train the denoising loss alone.
    [[nodiscard]] std::int64_t num_without_interactions() const;

private:
    [[nodiscard]] tensor_io::SafetensorsFile entry(EntryKind kind, const std::string& key) const;
    void check_entries(std::vector<std::string>& faults) const;
    void read_interactions(const CachedClip& clip, EncodedSample& sample) const;

    std::filesystem::path cache_;
    CacheIndex index_;
    bool id_map_;
    bool nearest_query_;
    std::int64_t num_tokens_ = 0;
    mutable std::mutex verified_mutex_;
    mutable std::set<std::filesystem::path> verified_;
};

/// Opens a cache that cannot be prepared here, for want of decoders, encoders or the data set: it
/// is refused unless it fits `config`, the encoders and the files of the data set, as far as they
/// are there. What is not counts as what the cache was prepared with, which is said. Saves
/// `hashes`, which made the ids, with those of the data set.
[[nodiscard]] std::unique_ptr<CacheReader> open_cache(const DataConfig& config,
                                                      const EncoderIds& encoders,
                                                      FileHashes& hashes, bool nearest_query);
/// The same with the encoders of the `model` directory; `dtype` names their compute dtype.
[[nodiscard]] std::unique_ptr<CacheReader> open_cache(const DataConfig& config,
                                                      const std::filesystem::path& model,
                                                      const std::string& dtype, bool nearest_query);

/// Where a cache keeps its FileHashes memo.
[[nodiscard]] std::filesystem::path hashes_path(const std::filesystem::path& cache);

}  // namespace matrix::data_cache
