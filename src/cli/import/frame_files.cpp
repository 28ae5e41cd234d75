#include "cli/import/frame_files.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "matrix/core/error.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

namespace matrix::imports {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kVideos = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"};
const std::vector<std::string> kPictures = {".jpg", ".jpeg", ".png", ".webp", ".bmp"};

bool has_extension(const fs::path& file, const std::vector<std::string>& extensions) {
    std::string extension = file.extension().string();
    std::ranges::transform(extension, extension.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return std::ranges::find(extensions, extension) != extensions.end();
}

std::optional<std::int64_t> number_of(const fs::path& file) {
    const std::string stem = file.stem().string();
    std::size_t begin = stem.size();
    while (begin > 0 && stem.size() - begin < 15 && stem[begin - 1] >= '0' &&
           stem[begin - 1] <= '9') {
        --begin;
    }
    return begin == stem.size() ? std::nullopt : std::optional(std::stoll(stem.substr(begin)));
}

Pictures video_of(const fs::path& file) {
    const media::VideoInfo info = media::probe_video(file);
    return {file, {}, {}, info.num_frames, info.width_px, info.height_px};
}

/// Whether the numbers are those of `others`, but for where they begin.
bool parallel(const NumberedFiles& files, const std::vector<std::int64_t>& others) {
    std::size_t i = 0;
    for (const auto& [number, path] : files) {
        if (i >= others.size() || number - files.begin()->first != others[i] - others[0]) {
            return false;
        }
        ++i;
    }
    return i == others.size();
}

std::vector<std::int64_t> frame_numbers(const NumberedFiles& files, const Pictures& pictures) {
    if (!pictures.numbers.empty()) {
        return pictures.numbers;
    }
    const bool from_one = !files.contains(0) && files.contains(pictures.num_frames);
    std::vector<std::int64_t> numbers;
    for (std::int64_t i = 0; i < pictures.num_frames; ++i) {
        numbers.push_back(i + (from_one ? 1 : 0));
    }
    return numbers;
}

}  // namespace

NumberedFiles numbered_files(const fs::path& folder, const std::vector<std::string>& extensions) {
    NumberedFiles files;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        const fs::path& file = it->path();
        if (!has_extension(file, extensions) || file.filename().string().starts_with('.')) {
            continue;
        }
        const auto number = number_of(file);
        if (!number) {
            throw RunError(file.string() +
                           ": its name ends in no number, which says the frame it belongs to");
        }
        const auto [other, is_first] = files.emplace(*number, file);
        if (!is_first) {
            throw RunError(file.string() + ": has the number of " +
                           other->second.filename().string() + "; keep one of them");
        }
    }
    if (error) {
        throw RunError(folder.string() + ": cannot be read (" + error.message() + ")");
    }
    return files;
}

std::string some_numbers(const std::vector<std::int64_t>& numbers) {
    constexpr std::size_t kShown = 5;
    std::string text;
    for (std::size_t i = 0; i < std::min(numbers.size(), kShown); ++i) {
        text += (i == 0 ? "" : ", ") + std::to_string(numbers[i]);
    }
    return numbers.size() <= kShown
               ? text
               : text + " and " + std::to_string(numbers.size() - kShown) + " more";
}

Pictures pictures_of(std::vector<fs::path> frames) {
    Pictures pictures;
    pictures.frames = std::move(frames);
    pictures.num_frames = static_cast<std::int64_t>(pictures.frames.size());
    if (!pictures.frames.empty()) {
        const at::Tensor first = media::read_image(pictures.frames.front());  // [H, W, 3]
        pictures.height_px = first.size(0);
        pictures.width_px = first.size(1);
    }
    return pictures;
}

Pictures find_pictures(const std::vector<fs::path>& roots, const std::string& name) {
    std::string looked;
    for (const fs::path& root : roots) {
        std::vector<fs::path> found;
        std::error_code ignored;
        for (const std::string& extension : kVideos) {
            if (fs::is_regular_file(root / (name + extension), ignored)) {
                found.push_back(root / (name + extension));
            }
        }
        NumberedFiles frames;
        if (fs::is_directory(root / name, ignored)) {
            frames = numbered_files(root / name, kPictures);
        }
        if (found.size() + (frames.empty() ? 0 : 1) > 1) {
            throw RunError(found[0].string() + ": stands beside " +
                           (found.size() > 1 ? found[1] : root / name).filename().string() +
                           "; keep one of them");
        }
        if (!found.empty()) {
            return video_of(found[0]);
        }
        if (!frames.empty()) {
            std::vector<fs::path> files;
            std::vector<std::int64_t> numbers;
            for (const auto& [number, file] : frames) {
                files.push_back(file);
                numbers.push_back(number);
            }
            Pictures pictures = pictures_of(std::move(files));
            pictures.numbers = std::move(numbers);
            return pictures;
        }
        looked += (looked.empty() ? "" : ", ") + root.string();
    }
    throw RunError("there is neither a video " + name + ".mp4 nor a folder " + name +
                   " of pictures in " + looked + "; name the place with --videos");
}

std::vector<fs::path> one_a_frame(const NumberedFiles& files, const Pictures& pictures,
                                  const std::string& what) {
    const std::vector<std::int64_t> numbers = frame_numbers(files, pictures);
    std::vector<fs::path> ordered;
    if (parallel(files, numbers)) {
        for (const auto& [number, file] : files) {
            ordered.push_back(file);
        }
        return ordered;
    }
    std::vector<std::int64_t> missing, surplus;
    for (const std::int64_t number : numbers) {
        const auto it = files.find(number);
        if (it == files.end()) {
            missing.push_back(number);
        } else {
            ordered.push_back(it->second);
        }
    }
    for (const auto& [number, file] : files) {
        if (!std::ranges::binary_search(numbers, number)) {
            surplus.push_back(number);
        }
    }
    std::string fault;
    if (!missing.empty()) {
        fault = "has no mask for frames " + some_numbers(missing);
    }
    if (!surplus.empty()) {
        fault += (fault.empty() ? "has masks " : " and masks ") + some_numbers(surplus) +
                 " that belong to no frame";
    }
    if (!fault.empty()) {
        throw RunError(what + ": " + fault + " (the clip has " +
                       std::to_string(pictures.num_frames) + " frames)");
    }
    return ordered;
}

}  // namespace matrix::imports
