#include "cli/generate/output_files.h"

#include <ATen/ATen.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/media/gif.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

namespace matrix::cli::generate {
namespace {

namespace fs = std::filesystem;

/// "000.png"; more digits where a clip has more frames.
std::string frame_name(std::int64_t frame) {
    char name[32];
    std::snprintf(name, sizeof name, "%03lld.png", static_cast<long long>(frame));
    return name;
}

bool is_frame_name(const std::string& name) {
    return name.size() >= 7 && name.ends_with(".png") &&
           std::all_of(name.begin(), name.end() - 4, [](char c) { return c >= '0' && c <= '9'; });
}

void write_frames(const fs::path& directory, const at::Tensor& frames) {
    write_directory_atomically(directory, [&](const fs::path& temporary) {
        for (std::int64_t i = 0; i < frames.size(0); ++i) {
            media::write_png(temporary / frame_name(i), frames[i]);
        }
    });
}

/// The nearest directory above `path` that exists.
fs::path existing_parent(const fs::path& path) {
    fs::path parent = fs::absolute(path).parent_path();
    std::error_code ignored;
    while (!fs::exists(parent, ignored) && parent.has_relative_path()) {
        parent = parent.parent_path();
    }
    return parent;
}

bool is_record(const fs::path& path) {
    try {
        const nlohmann::json record = parse_json(read_text_file(path), path.string());
        return record.is_object() && record.contains("settings") && record.contains("model");
    } catch (const Error&) {
        return false;
    }
}

/// Tried, since permissions do not tell of read-only and special file systems.
bool can_create_in(const fs::path& directory) {
    std::string name = (directory / ".matrix-XXXXXX").string();
    const int descriptor = ::mkstemp(name.data());
    if (descriptor < 0) {
        return false;
    }
    ::close(descriptor);
    return ::unlink(name.c_str()) == 0;
}

}  // namespace

OutputFiles::OutputFiles(const VideoSettings& settings)
    : stem_(fs::path(settings.out).lexically_normal()), formats_(settings.formats) {
    const std::string ending = stem_.extension().string();
    const bool known = ending == ".mp4" || ending == ".gif";
    if (stem_.filename().empty() || (known && stem_.stem().empty())) {
        throw UsageError("out: \"" + settings.out + "\" names no file");
    }
    if (known) {
        stem_.replace_extension();
    }
    if (formats_.empty()) {
        if (!known) {
            throw UsageError("out: \"" + settings.out +
                             "\" ends in neither .mp4 nor .gif; formats says what else to write");
        }
        formats_ = {ending.substr(1)};
    }
}

fs::path OutputFiles::with_ending(const std::string& ending) const {
    fs::path path = stem_;
    path += ending;
    return path;
}

std::vector<fs::path> OutputFiles::paths() const {
    std::vector<fs::path> paths;
    for (const std::string& format : formats_) {
        paths.push_back(format == "png" ? stem_ : with_ending("." + format));
    }
    return paths;
}

bool OutputFiles::are_made_from(const nlohmann::json& record) const {
    std::error_code ignored;
    const std::vector<fs::path> files = paths();
    if (!std::ranges::all_of(files, [&](const fs::path& p) { return fs::exists(p, ignored); })) {
        return false;
    }
    try {
        const fs::path path = with_ending(".json");
        return parse_json(read_text_file(path), path.string()) == record;
    } catch (const Error&) {
        return false;
    }
}

void OutputFiles::check_writable() const {
    std::error_code ignored;
    std::vector<std::string> faults;
    for (const fs::path& path : paths()) {
        const bool is_frames = path == stem_;
        if (fs::is_directory(path, ignored) != is_frames && fs::exists(path, ignored)) {
            faults.push_back(path.string() + ": is in the way, a " +
                             (is_frames ? "directory of frames" : "file") +
                             " is to be written there");
        } else if (is_frames && fs::exists(path, ignored)) {
            for (const auto& entry : fs::directory_iterator(path, ignored)) {
                if (!is_frame_name(entry.path().filename().string())) {
                    faults.push_back(path.string() + ": holds " + entry.path().filename().string() +
                                     ", which is no frame; it would be replaced by the frames");
                    break;
                }
            }
        }
    }
    const fs::path record = with_ending(".json");
    if (fs::exists(record, ignored) && !is_record(record)) {
        faults.push_back(record.string() +
                         ": is in the way, and no record of a video; choose another --out");
    }
    const fs::path parent = existing_parent(stem_);
    if (!fs::is_directory(parent, ignored)) {
        faults.push_back(parent.string() + ": is not a directory");
    } else if (!can_create_in(parent)) {
        faults.push_back(parent.string() + ": no file can be made there");
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
}

void OutputFiles::write(const at::Tensor& frames, double frames_per_second,
                        const nlohmann::json& record) const {
    // The old one must not stand beside new files if this ends half-way.
    fs::remove(with_ending(".json"));
    for (const std::string& format : formats_) {
        if (format == "png") {
            write_frames(stem_, frames);
        } else if (format == "gif") {
            media::write_gif(with_ending(".gif"), frames, frames_per_second);
        } else {
            media::write_video(with_ending(".mp4"), frames, frames_per_second);
        }
    }
    write_file_atomically(with_ending(".json"), record.dump(2) + "\n");
}

}  // namespace matrix::cli::generate
