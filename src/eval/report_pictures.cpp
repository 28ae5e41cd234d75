#include "eval/report_pictures.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <set>
#include <vector>

#include "eval/report_text.h"
#include "matrix/core/error.h"
#include "matrix/core/markup.h"
#include "matrix/media/geometry.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

namespace matrix::eval {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kPictureWidth = 240;
constexpr int kJpegQuality = 75;

std::string picture(const at::Tensor& frame, std::int64_t number) {
    const std::string size = "width=\"" + std::to_string(frame.size(1)) + "\" height=\"" +
                             std::to_string(frame.size(0)) + "\"";
    return "<figure><img alt=\"frame " + std::to_string(number) + "\" " + size +
           " src=\"data:image/jpeg;base64," + base64(media::encode_jpeg(frame, kJpegQuality)) +
           "\"><figcaption>" + std::to_string(number) + "</figcaption></figure>";
}

}  // namespace

std::string pictures(const fs::path& overlay) {
    if (!fs::exists(overlay)) {
        return "<p class=\"none\">no overlay</p>";
    }
    try {
        const media::VideoInfo info = media::probe_video(overlay);
        const std::set<std::int64_t> chosen = {0, info.num_frames / 2, info.num_frames - 1};
        const std::vector<std::int64_t> numbers(chosen.begin(), chosen.end());
        const std::int64_t height =
            std::max<std::int64_t>(1, kPictureWidth * info.height_px / info.width_px);
        const at::Tensor small =
            media::resize_frames(media::read_video_frames(overlay, numbers),
                                 media::fit(info.height_px, info.width_px, height, kPictureWidth,
                                            media::Resize::kStretch));
        std::string result = "<div class=\"frames\">";
        for (std::size_t i = 0; i < numbers.size(); ++i) {
            result += picture(small[static_cast<std::int64_t>(i)], numbers[i]);
        }
        return result + "</div>";
    } catch (const RunError& error) {
        return "<p class=\"none\">" + escaped_markup(error.what()) + "</p>";
    }
}

}  // namespace matrix::eval
