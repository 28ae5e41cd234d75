#include "matrix/train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/log/log.h"

namespace matrix::train {
namespace {

constexpr std::size_t kMaxMetricsBytes = std::size_t{4} << 30;

/// The lines of steps up to `last_step`; what is no record is counted in `damaged`. An unfinished
/// last line is what a killed process leaves, and no damage.
std::string records_until(const std::string& text, std::int64_t last_step, std::int64_t& damaged) {
    std::string kept;
    for (std::size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
        const std::string line = text.substr(begin, end - begin);
        const nlohmann::json record = nlohmann::json::parse(line, nullptr, false);
        if (!record.is_object() || !record.contains("step") ||
            !record["step"].is_number_integer()) {
            ++damaged;
        } else if (record["step"].get<std::int64_t>() <= last_step) {
            kept += line + "\n";
        }
    }
    return kept;
}

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, std::int64_t last_step) : path_(path) {
    if (std::filesystem::exists(path)) {
        const std::string text = read_text_file(path, kMaxMetricsBytes);
        std::int64_t damaged = 0;
        const std::string kept = records_until(text, last_step, damaged);
        if (damaged > 0) {
            log::warning(path.string() + ": " + std::to_string(damaged) +
                         " lines that are no records of a step are dropped");
        }
        if (kept != text) {
            write_file_atomically(path, kept);
        }
    }
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND, 0644);
    if (descriptor_ < 0) {
        throw RunError(path.string() + ": cannot write: " + std::strerror(errno));
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
