#include "matrix/train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "matrix/core/error.h"
#include "matrix/core/files.h"

namespace matrix::train {
namespace {

constexpr std::size_t kMaxMetricsBytes = std::size_t{4} << 30;

/// Bytes of the leading lines that are whole records of steps up to `last_step`.
std::size_t valid_prefix(const std::string& text, std::int64_t last_step) {
    std::size_t begin = 0;
    while (true) {
        const std::size_t end = text.find('\n', begin);
        if (end == std::string::npos) {
            return begin;
        }
        const nlohmann::json record =
            nlohmann::json::parse(text.substr(begin, end - begin), nullptr, false);
        if (!record.is_object() || !record.contains("step") ||
            !record["step"].is_number_integer() || record["step"].get<std::int64_t>() > last_step) {
            return begin;
        }
        begin = end + 1;
    }
}

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, std::int64_t last_step) : path_(path) {
    std::size_t keep = 0;
    if (std::filesystem::exists(path)) {
        keep = valid_prefix(read_text_file(path, kMaxMetricsBytes), last_step);
    }
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND, 0644);
    if (descriptor_ < 0 || ::ftruncate(descriptor_, static_cast<off_t>(keep)) != 0) {
        const std::string reason = std::strerror(errno);
        if (descriptor_ >= 0) {
            ::close(descriptor_);
        }
        throw RunError(path.string() + ": cannot write: " + reason);
    }
}

MetricsFile::~MetricsFile() {
    ::close(descriptor_);
}

void MetricsFile::append(const nlohmann::json& record) {
    const std::string line = record.dump() + "\n";
    write_all(descriptor_, line.data(), line.size(), path_);
}

void MetricsFile::sync() {
    // Some network and FUSE file systems cannot sync, and say so with EINVAL.
    if (::fsync(descriptor_) != 0 && errno != EINVAL) {
        throw RunError(path_.string() + ": cannot sync: " + std::strerror(errno));
    }
}

}  // namespace matrix::train
