#include "cli/fingerprints.h"

#include <map>
#include <nlohmann/json.hpp>

#include "matrix/core/files.h"

namespace matrix::cli {

namespace fs = std::filesystem;
using nlohmann::json;

std::string hash_path(const fs::path& path) {
    if (!fs::is_directory(path)) {
        return hash_file(path);
    }
    std::map<std::string, std::string> hashes;
    for (const auto& entry : fs::recursive_directory_iterator(path)) {
        if (entry.is_regular_file()) {
            hashes[entry.path().lexically_relative(path).string()] = hash_file(entry.path());
        }
    }
    return hash_text(json(hashes).dump());
}

std::string fingerprint(const fs::path& directory) {
    json files = json::object();
    if (fs::is_directory(directory)) {
        for (const auto& entry : fs::recursive_directory_iterator(directory)) {
            if (entry.is_regular_file()) {
                files[entry.path().lexically_relative(directory).string()] = {
                    entry.file_size(), entry.last_write_time().time_since_epoch().count()};
            }
        }
    }
    return hash_text(files.dump());
}

}  // namespace matrix::cli
