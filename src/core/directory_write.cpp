#include <fcntl.h>
#include <stdio.h>

#include <cerrno>

#include "core/descriptor.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"

namespace matrix {

namespace fs = std::filesystem;

namespace {

struct RemoveAtExit {
    fs::path path;
    ~RemoveAtExit() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
};

void sync_tree(const fs::path& directory) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) {
        if (entry.is_directory() || (entry.is_regular_file() && !entry.is_symlink())) {
            sync_path(entry.path());
        }
    }
    sync_path(directory);
}

void rename_or_throw(const fs::path& from, const fs::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) {
        throw_errno(to, "replace the directory");
    }
}

// Afterwards `temporary` is what was at `path`, or nothing.
void put_in_place(const fs::path& temporary, const fs::path& path) {
    if (!fs::exists(fs::symlink_status(path))) {
        rename_or_throw(temporary, path);
        return;
    }
    if (!fs::is_directory(path)) {
        errno = ENOTDIR;
        throw_errno(path, "replace the directory");
    }
    if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
        return;
    }
    if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) {
        throw_errno(path, "replace the directory");
    }
    // A file system that cannot exchange names: for a moment there is no directory at `path`, but
    // the old one is kept until the new one stands.
    const fs::path old = temporary_sibling(path);
    rename_or_throw(path, old);
    try {
        rename_or_throw(temporary, path);
    } catch (const RunError&) {
        ::rename(old.c_str(), path.c_str());
        throw;
    }
    rename_or_throw(old, temporary);
}

}  // namespace

void write_directory_atomically(const fs::path& path,
                                const std::function<void(const fs::path&)>& fill) {
    // "runs/x/" has no file name of its own: its temporary would lie inside it.
    const fs::path target = path.has_filename() ? path : path.parent_path();
    const fs::path parent = make_parent(target);
    const RemoveAtExit temporary{temporary_sibling(target)};
    std::error_code failure;
    if (!fs::create_directory(temporary.path, failure)) {
        throw RunError(target.string() +
                       ": cannot create a temporary directory beside it: " + failure.message());
    }
    fill(temporary.path);
    try {
        sync_tree(temporary.path);
        put_in_place(temporary.path, target);
    } catch (const fs::filesystem_error& error) {
        throw RunError(target.string() + ": cannot write the directory: " + error.code().message());
    }
    sync_path(parent);
}

}  // namespace matrix
