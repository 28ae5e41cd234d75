#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>

namespace matrix {

/// Owns a file descriptor; -1 is none.
class Descriptor {
public:
    explicit Descriptor(int number = -1) noexcept : number_(number) {}
    ~Descriptor() { close(); }
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    [[nodiscard]] int get() const noexcept { return number_; }
    /// The result of close(2): a network file system reports a full disk here. 0 if none is open.
    int close() noexcept;

private:
    int number_;
};

/// RunError "PATH: cannot WHAT: REASON" with the reason of errno.
[[noreturn]] void throw_errno(const std::filesystem::path& path, const std::string& what);

/// A regular file to read; RunError for anything else.
[[nodiscard]] Descriptor open_for_reading(const std::filesystem::path& path);

/// Up to `bytes` bytes, 0 at the end of the file.
[[nodiscard]] std::size_t read_some(int descriptor, char* data, std::size_t bytes,
                                    const std::filesystem::path& path);

/// fsync of a file or directory by its path.
void sync_path(const std::filesystem::path& path);

/// A path beside `path` that no other process or thread uses.
[[nodiscard]] std::filesystem::path temporary_sibling(const std::filesystem::path& path);

/// The directory of `path`, created if missing; "." for a bare name.
[[nodiscard]] std::filesystem::path make_parent(const std::filesystem::path& path);

}  // namespace matrix
