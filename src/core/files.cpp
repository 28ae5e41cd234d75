#include "matrix/core/files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "core/descriptor.h"
#include "matrix/core/error.h"
#include "matrix/core/system_error.h"

namespace matrix {

namespace fs = std::filesystem;

namespace {

// Past RLIMIT_FSIZE the kernel sends SIGXFSZ, which by default ends the process in the middle of a
// write; ignored, write(2) fails with EFBIG like any other fault.
void ignore_file_size_signal() {
    static const bool once = [] {
        struct sigaction current {};
        if (::sigaction(SIGXFSZ, nullptr, &current) == 0 && current.sa_handler == SIG_DFL) {
            ::signal(SIGXFSZ, SIG_IGN);
        }
        return true;
    }();
    (void)once;
}

/// Removes the temporary file unless it was renamed into place.
class TemporaryFile {
public:
    explicit TemporaryFile(const fs::path& target)
        : path_(temporary_sibling(target)),
          descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) {
        if (descriptor_.get() < 0) {
            throw_errno(target, "create a temporary file beside it");
        }
    }
    ~TemporaryFile() {
        if (!path_.empty()) {
            ::unlink(path_.c_str());
        }
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    [[nodiscard]] int descriptor() const { return descriptor_.get(); }

    void rename_to(const fs::path& target) {
        if (::fsync(descriptor_.get()) != 0 || descriptor_.close() != 0) {
            throw_errno(target, "write");
        }
        if (::rename(path_.c_str(), target.c_str()) != 0) {
            throw_errno(target, "replace");
        }
        path_.clear();
    }

private:
    fs::path path_;
    Descriptor descriptor_;
};

}  // namespace

int Descriptor::close() noexcept {
    const int number = std::exchange(number_, -1);
    return number < 0 ? 0 : ::close(number);
}

void throw_errno(const fs::path& path, const std::string& what) {
    const int reason = errno;
    throw SystemError(path.string() + ": cannot " + what + ": " + std::strerror(reason), reason);
}

Descriptor open_for_reading(const fs::path& path) {
    // Opening a pipe that nobody writes to would otherwise wait for ever.
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status {};
    if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
        throw_errno(path, "open");
    }
    if (S_ISDIR(status.st_mode)) {
        errno = EISDIR;
        throw_errno(path, "open");
    }
    if (!S_ISREG(status.st_mode)) {
        throw RunError(path.string() + ": not a regular file");
    }
    return file;
}

std::size_t read_some(int descriptor, char* data, std::size_t bytes, const fs::path& path) {
    while (true) {
        const ssize_t count = ::read(descriptor, data, bytes);
        if (count >= 0) {
            return static_cast<std::size_t>(count);
        }
        if (errno != EINTR) {
            throw_errno(path, "read");
        }
    }
}

void sync_path(const fs::path& path) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    // Some network and FUSE file systems cannot sync a directory, and say so with EINVAL.
    if (file.get() < 0 || (::fsync(file.get()) != 0 && errno != EINVAL)) {
        throw_errno(path, "sync");
    }
}

fs::path temporary_sibling(const fs::path& path) {
    static std::atomic<unsigned> counter{0};
    while (true) {
        fs::path candidate = path;
        candidate += ".tmp." + std::to_string(::getpid()) + "." + std::to_string(counter++);
        struct stat status {};
        // A killed process of the same number may have left one.
        if (::lstat(candidate.c_str(), &status) != 0) {
            return candidate;
        }
    }
}

fs::path make_parent(const fs::path& path) {
    fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
    std::error_code failure;
    fs::create_directories(parent, failure);
    if (failure) {
        throw RunError(parent.string() + ": cannot create the directory: " + failure.message());
    }
    return parent;
}

std::string read_text_file(const fs::path& path, std::size_t max_bytes) {
    const Descriptor file = open_for_reading(path);
    std::string text;
    std::size_t used = 0;
    while (true) {
        text.resize(std::min(used + (64u << 10), max_bytes + 1));
        const std::size_t bytes =
            read_some(file.get(), text.data() + used, text.size() - used, path);
        used += bytes;
        if (used > max_bytes) {
            throw RunError(path.string() + ": larger than " + std::to_string(max_bytes) +
                           " bytes, which is not what this file should be");
        }
        if (bytes == 0) {
            text.resize(used);
            return text;
        }
    }
}

void write_all(int descriptor, const void* data, std::size_t bytes, const fs::path& path) {
    const auto* next = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t written = ::write(descriptor, next, bytes);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            throw_errno(path, "write");
        }
        next += written;
        bytes -= static_cast<std::size_t>(written);
    }
}

void write_file_atomically(const fs::path& path, std::string_view content) {
    write_file_atomically(
        path, [&](int descriptor) { write_all(descriptor, content.data(), content.size(), path); });
}

void write_file_atomically(const fs::path& path, const std::function<void(int)>& write) {
    ignore_file_size_signal();
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) &&
        !S_ISDIR(status.st_mode)) {
        // A device or pipe must not become a file. What a directory is, rename(2) says.
        throw RunError(path.string() + ": not a regular file, so it is not replaced");
    }
    const fs::path parent = make_parent(path);
    TemporaryFile file(path);
    write(file.descriptor());
    file.rename_to(path);
    sync_path(parent);
}

}  // namespace matrix
