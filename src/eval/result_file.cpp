#include "eval/result_file.h"

#include <utility>

#include "matrix/core/error.h"
#include "matrix/eval/layout.h"

namespace matrix::eval {

ResultFile::ResultFile(std::filesystem::path path, std::string id_key)
    : path_(std::move(path)), id_key_(std::move(id_key)) {
    if (!std::filesystem::exists(path_)) {
        return;
    }
    const Json file = read_json(path_);
    for (const Json& entry : expect_array(file, path_.string())) {
        std::string id;
        if (entry.is_object() && entry.contains(id_key_) &&
            entry.at(id_key_).is_number_unsigned()) {
            id = video_id(entry.at(id_key_).get<std::size_t>());
        } else {
            id = text_of(entry, id_key_.c_str(), path_.string());
        }
        if (!entries_.emplace(id, entry).second) {
            throw RunError(path_.string() + ": video " + id + " stands twice");
        }
    }
}

const Json* ResultFile::find(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    const auto place = entries_.find(id);
    return place == entries_.end() ? nullptr : &place->second;
}

void ResultFile::put(const std::string& id, Json entry) {
    const std::lock_guard lock(mutex_);
    entries_[id] = std::move(entry);
    write();
}

void ResultFile::erase(const std::string& id) {
    const std::lock_guard lock(mutex_);
    if (entries_.erase(id) > 0) {
        write();
    }
}

void ResultFile::remove_leftovers() const {
    const std::string start = path_.filename().string() + ".tmp.";
    std::error_code missing;
    for (const auto& entry : std::filesystem::directory_iterator(path_.parent_path(), missing)) {
        if (entry.path().filename().string().starts_with(start)) {
            std::error_code ignored;
            std::filesystem::remove(entry.path(), ignored);
        }
    }
}

void ResultFile::write() {
    if (!std::exchange(is_clean_, true)) {
        remove_leftovers();
    }
    Json file = Json::array();
    for (const auto& [id, entry] : entries_) {
        file.push_back(entry);
    }
    write_json(path_, file);
}

}  // namespace matrix::eval
