#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace matrix::data_cache {

/// Content hashes of files, memoised by path, size and modification time, so that a data set is
/// read once and after that only looked at. Thread-safe.
class FileHashes {
public:
    /// `memo` is a JSON file that may be missing; one that is damaged is treated as missing (it
    /// holds nothing that cannot be computed anew).
    explicit FileHashes(std::filesystem::path memo);

    /// 32 hexadecimal digits. RunError if the file cannot be read.
    [[nodiscard]] std::string file(const std::filesystem::path& path);
    /// One hash for the named files of a folder, in that order, of their contents alone.
    [[nodiscard]] std::string folder(const std::filesystem::path& directory,
                                     const std::vector<std::string>& names);
    /// Writes the memo, if anything was added. Where it cannot be written (a cache on a read-only
    /// file system) nothing is lost but time, and nothing is said.
    void save();

private:
    struct Known {
        std::string stamp;
        std::string hash;
    };
    [[nodiscard]] std::string find(const std::string& path, const std::string& stamp) const;
    void remember(const std::string& path, std::string stamp, std::string hash);

    std::filesystem::path memo_;
    mutable std::mutex mutex_;
    std::map<std::string, Known> known_;
    bool changed_ = false;
};

}  // namespace matrix::data_cache
