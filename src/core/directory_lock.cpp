#include "matrix/core/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "core/descriptor.h"
#include "matrix/core/error.h"

namespace matrix {

DirectoryLock::DirectoryLock(const std::filesystem::path& directory, const std::string& what) {
    std::error_code fault;
    std::filesystem::create_directories(directory, fault);
    descriptor_ = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor_ < 0 && fault) {
        throw RunError(directory.string() + ": cannot create the directory: " + fault.message());
    }
    if (descriptor_ < 0) {
        throw_errno(directory, "open the directory");
    }
    // Some network file systems have no locks on directories: a run there is not refused.
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        ::close(descriptor_);
        throw RunError(directory.string() + ": another process has " + what +
                       " going on here; wait for it, or choose another directory");
    }
}

DirectoryLock::~DirectoryLock() {
    ::close(descriptor_);
}

}  // namespace matrix
