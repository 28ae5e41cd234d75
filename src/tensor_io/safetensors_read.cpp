#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "matrix/core/error.h"
#include "matrix/core/system_error.h"
#include "matrix/tensor_io/safetensors.h"
#include "tensor_io/safetensors_header.h"

namespace matrix::tensor_io {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

/// A whole file in memory. Private and writable: an in-place operation on a weight changes this
/// process's copy of the page, where a read-only mapping would crash.
class Mapping {
public:
    explicit Mapping(const std::filesystem::path& path) {
        // O_NONBLOCK: opening a named pipe would wait for a writer for ever.
        const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (descriptor < 0) {
            fail(path, "open", errno);
        }
        struct stat status {};
        int reason = ::fstat(descriptor, &status) != 0 ? errno : 0;
        if (reason == 0 && !S_ISREG(status.st_mode)) {
            reason = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
        }
        if (reason == 0 && status.st_size > 0) {
            size_ = static_cast<std::size_t>(status.st_size);
            // NORESERVE: only pages that are written cost memory, so a file larger than the free
            // memory may be mapped.
            data_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                           descriptor, 0);
            reason = data_ == MAP_FAILED ? errno : 0;
        }
        ::close(descriptor);
        if (reason != 0) {
            fail(path, "read", reason);
        }
    }
    ~Mapping() {
        if (size_ > 0) {
            ::munmap(data_, size_);
        }
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] char* data() const { return static_cast<char*>(data_); }

private:
    [[noreturn]] static void fail(const std::filesystem::path& path, const std::string& what,
                                  int reason) {
        throw SystemError(path.string() + ": cannot " + what + ": " + std::strerror(reason),
                          reason);
    }

    void* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace

struct SafetensorsFile::Impl {
    std::filesystem::path path;
    std::shared_ptr<Mapping> mapping;
    std::size_t data_begin = 0;
    Header header;

    [[nodiscard]] const Entry& entry(const std::string& key) const {
        const auto found = header.entries.find(key);
        if (found == header.entries.end()) {
            throw RunError(path.string() + ": no tensor " + quote_name(key));
        }
        return found->second;
    }
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : impl_(std::make_unique<Impl>()) {
    impl_->path = path;
    impl_->mapping = std::make_shared<Mapping>(path);
    const Mapping& file = *impl_->mapping;
    std::uint64_t header_bytes = 0;
    if (file.size() < sizeof(header_bytes)) {
        throw RunError(path.string() + ": " + std::to_string(file.size()) +
                       " bytes are too few for a safetensors file");
    }
    std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
    const std::uint64_t rest = file.size() - sizeof(header_bytes);
    if (header_bytes > rest || header_bytes > kMaxHeaderBytes) {
        throw RunError(path.string() + ": not a safetensors file: its header would have " +
                       std::to_string(header_bytes) + " bytes, of " + std::to_string(rest) +
                       " in the file and at most " + std::to_string(kMaxHeaderBytes));
    }
    const char* text = file.data() + sizeof(header_bytes);
    if (header_bytes == 0 || text[0] != '{') {
        throw RunError(path.string() +
                       ": not a safetensors file: its header does not begin with \"{\"");
    }
    impl_->data_begin = sizeof(header_bytes) + header_bytes;
    impl_->header = parse_header({text, header_bytes}, rest - header_bytes, path.string());
}

SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;

const std::filesystem::path& SafetensorsFile::path() const {
    return impl_->path;
}

std::vector<std::string> SafetensorsFile::keys() const {
    std::vector<std::string> result;
    result.reserve(impl_->header.entries.size());
    for (const auto& [key, entry] : impl_->header.entries) {
        result.push_back(key);
    }
    return result;
}

bool SafetensorsFile::contains(const std::string& key) const {
    return impl_->header.entries.contains(key);
}

at::Tensor SafetensorsFile::tensor(const std::string& key) const {
    const Entry& entry = impl_->entry(key);
    const at::TensorOptions options = at::TensorOptions().dtype(entry.dtype).device(at::kCPU);
    const std::size_t bytes = entry.end - entry.begin;
    char* data = impl_->mapping->data() + impl_->data_begin + entry.begin;
    const bool aligned =
        reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(entry.dtype) == 0;
    if (bytes > 0 && aligned) {
        return at::from_blob(
            data, entry.shape, [owner = impl_->mapping](void*) {}, options);
    }
    at::Tensor copy = at::empty(entry.shape, options);
    if (bytes > 0) {
        std::memcpy(copy.data_ptr(), data, bytes);
    }
    return copy;
}

std::vector<std::int64_t> SafetensorsFile::shape(const std::string& key) const {
    return impl_->entry(key).shape;
}

at::ScalarType SafetensorsFile::dtype(const std::string& key) const {
    return impl_->entry(key).dtype;
}

const Metadata& SafetensorsFile::metadata() const {
    return impl_->header.metadata;
}

TensorMap SafetensorsFile::all() const {
    TensorMap result;
    for (const auto& [key, entry] : impl_->header.entries) {
        result.emplace(key, tensor(key));
    }
    return result;
}

}  // namespace matrix::tensor_io
