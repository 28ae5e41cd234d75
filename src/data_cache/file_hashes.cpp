#include "matrix/data_cache/file_hashes.h"

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"

#include <nlohmann/json.hpp>

#include <sys/stat.h>
#include <cerrno>
#include <cstring>

namespace matrix::data_cache {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxMemoBytes = std::size_t{1} << 30;

// Size, and the times of modification and of change in nanoseconds (nobody can set the latter
// back), taken before the content is read: a write during the hash changes them.
std::string stamp_of(const fs::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        throw RunError(path.string() + ": " + std::strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        throw RunError(path.string() + ": is not a file");
    }
    return std::to_string(status.st_size) + ":" + std::to_string(status.st_mtim.tv_sec) + "." +
           std::to_string(status.st_mtim.tv_nsec) + ":" + std::to_string(status.st_ctim.tv_sec) +
           "." + std::to_string(status.st_ctim.tv_nsec);
}

std::string memo_name(const fs::path& path) {
    return fs::absolute(path).lexically_normal().string();
}

}  // namespace

FileHashes::FileHashes(fs::path memo) : memo_(std::move(memo)) {
    std::error_code ignored;
    if (!fs::exists(memo_, ignored)) {
        return;
    }
    try {
        const auto json = parse_json(read_text_file(memo_, kMaxMemoBytes), memo_.string());
        for (const auto& [path, entry] : json.items()) {
            known_[path] = {entry.at(0).get<std::string>(), entry.at(1).get<std::string>()};
        }
    } catch (const std::exception&) {
        known_.clear();
    }
}

std::string FileHashes::find(const std::string& path, const std::string& stamp) const {
    const std::lock_guard lock(mutex_);
    const auto it = known_.find(path);
    return it != known_.end() && it->second.stamp == stamp ? it->second.hash : std::string();
}

void FileHashes::remember(const std::string& path, std::string stamp, std::string hash) {
    const std::lock_guard lock(mutex_);
    known_[path] = {std::move(stamp), std::move(hash)};
    changed_ = true;
}

std::string FileHashes::file(const fs::path& path) {
    const std::string name = memo_name(path);
    std::string stamp = stamp_of(path);
    std::string hash = find(name, stamp);
    if (hash.empty()) {
        hash = hash_file(path);
        remember(name, std::move(stamp), hash);
    }
    return hash;
}

std::string FileHashes::folder(const fs::path& directory, const std::vector<std::string>& names) {
    std::string stamps;
    for (const std::string& name : names) {
        stamps += name + ' ' + stamp_of(directory / name) + '\n';
    }
    // One line of the memo a folder: a data set has some hundred masks a clip.
    std::string stamp = hash_text(stamps);
    const std::string memo = memo_name(directory);
    std::string hash = find(memo, stamp);
    if (hash.empty()) {
        std::string contents;
        for (const std::string& name : names) {
            contents += hash_file(directory / name) + '\n';
        }
        hash = hash_text(contents);
        remember(memo, std::move(stamp), hash);
    }
    return hash;
}

void FileHashes::save() {
    const std::lock_guard lock(mutex_);
    if (!changed_) {
        return;
    }
    auto json = nlohmann::json::object();
    for (const auto& [path, known] : known_) {
        json[path] = {known.stamp, known.hash};
    }
    try {
        write_file_atomically(memo_,
                              json.dump(0, ' ', false, nlohmann::json::error_handler_t::replace));
        changed_ = false;
    } catch (const RunError&) {
        // The next start hashes again.
    }
}

}  // namespace matrix::data_cache
