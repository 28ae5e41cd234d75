#include "matrix/log/log.h"
#include "matrix/media/video.h"
#include "media/frame_decoder.h"
#include "media/rgb_converter.h"
#include "media/video_file.h"

extern "C" {
#include <libavutil/frame.h>
#include <libavutil/pixdesc.h>
}

#include <ATen/ATen.h>

#include <algorithm>
#include <mutex>
#include <set>

namespace matrix::media {

namespace {

void warn_of_hdr(const std::filesystem::path& path, const AVFrame& frame) {
    if (frame.color_trc != AVCOL_TRC_SMPTE2084 && frame.color_trc != AVCOL_TRC_ARIB_STD_B67) {
        return;
    }
    static std::mutex mutex;
    static std::set<std::filesystem::path> warned;
    const std::lock_guard lock(mutex);
    if (warned.insert(path).second) {
        log::warning(path.string() + ": HDR video (transfer function " +
                     av_color_transfer_name(frame.color_trc) +
                     ") is read without tone mapping: its colours will look flat");
    }
}

}  // namespace

at::Tensor read_video_frames(const std::filesystem::path& path,
                             const std::vector<std::int64_t>& indices) {
    TORCH_CHECK(!indices.empty() && indices.front() >= 0 &&
                    std::adjacent_find(indices.begin(), indices.end(),
                                       [](auto a, auto b) { return b < a; }) == indices.end(),
                "read_video_frames: ascending indices from 0 wanted");
    VideoFile file(path);
    FrameDecoder decoder(file);
    RgbConverter converter(file);
    at::Tensor frames;  // [n, H, W, 3]
    std::int64_t decoded = 0;
    for (std::size_t i = 0; i < indices.size();) {
        const AVFrame* frame = decoder.next();
        if (frame == nullptr) {
            file.fail("frame " + std::to_string(indices[i]) + " was asked for, the video has " +
                      std::to_string(decoded) + " frames");
        }
        if (decoded++ != indices[i]) {
            continue;
        }
        warn_of_hdr(path, *frame);
        const at::Tensor image = at::rot90(converter.convert(*frame), file.quarter_turns(), {0, 1});
        if (!frames.defined()) {
            frames = at::empty(
                {static_cast<std::int64_t>(indices.size()), image.size(0), image.size(1), 3},
                at::kByte);
        }
        // An index may be asked for more than once: at a wanted rate above the video's, say.
        for (const std::int64_t index = indices[i]; i < indices.size() && indices[i] == index;
             ++i) {
            frames[static_cast<std::int64_t>(i)].copy_(image);
        }
    }
    return frames;
}

}  // namespace matrix::media
