#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <string>

#include "eval/json_reading.h"

namespace matrix::eval {

/// A step's file for one model and data type: an array with one entry a video, rewritten after each
/// video so that a process that is killed loses none. May be changed from several threads.
class ResultFile {
public:
    /// Reads what is there. `id_key` is the entries' field that tells videos apart. RunError for a
    /// file of another shape.
    ResultFile(std::filesystem::path path, std::string id_key);

    /// The entry, or null. Valid while its video's entry is not changed.
    [[nodiscard]] const Json* find(const std::string& id) const;
    void put(const std::string& id, Json entry);
    void erase(const std::string& id);

private:
    void write();
    /// Of writers that were killed; there is no other one, since a directory has one process.
    void remove_leftovers() const;

    std::filesystem::path path_;
    std::string id_key_;
    mutable std::mutex mutex_;
    std::map<std::string, Json> entries_;
    bool is_clean_ = false;
};

}  // namespace matrix::eval
