#pragma once

#include <filesystem>
#include <string>

namespace matrix {

/// A directory that one process works in at a time: made if it is not there, with an advisory lock
/// on it, which the system drops with the process however that ends.
class DirectoryLock {
public:
    /// RunError where the directory cannot be made or opened, or where another process holds it;
    /// `what` says in the message what works there ("a run").
    DirectoryLock(const std::filesystem::path& directory, const std::string& what);
    ~DirectoryLock();
    DirectoryLock(const DirectoryLock&) = delete;
    DirectoryLock& operator=(const DirectoryLock&) = delete;

private:
    int descriptor_;
};

}  // namespace matrix
