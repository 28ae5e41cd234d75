#include "matrix/media/gif.h"

#include "media/av.h"
#include "media/output_file.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavfilter/avfilter.h>
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
}

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <string>

namespace matrix::media {
namespace {

constexpr AVRational kHundredths = {1, 100};

struct FreeGraph {
    void operator()(AVFilterGraph* graph) const { avfilter_graph_free(&graph); }
};
struct FreeInOut {
    void operator()(AVFilterInOut* ends) const { avfilter_inout_free(&ends); }
};
using InOut = std::unique_ptr<AVFilterInOut, FreeInOut>;

/// Frames in, the same frames out in the 256 colours that suit all of them best.
class Palette {
public:
    Palette(const OutputFile& file, int width, int height) : file_(file) {
        graph_.reset(avfilter_graph_alloc());
        const std::string arguments = "video_size=" + std::to_string(width) + "x" +
                                      std::to_string(height) +
                                      ":pix_fmt=rgb24:time_base=1/100:pixel_aspect=1/1";
        make(&source_, "buffer", arguments.c_str());
        make(&sink_, "buffersink", nullptr);
        InOut outputs = end("in", source_), inputs = end("out", sink_);
        AVFilterInOut* raw_inputs = inputs.release();
        AVFilterInOut* raw_outputs = outputs.release();
        const int code = avfilter_graph_parse_ptr(
            graph_.get(), "[in] split [a][b]; [a] palettegen [p]; [b][p] paletteuse [out]",
            &raw_inputs, &raw_outputs, nullptr);
        inputs.reset(raw_inputs);
        outputs.reset(raw_outputs);
        file_.check(code);
        file_.check(avfilter_graph_config(graph_.get(), nullptr));
    }

    /// Null at the end.
    void send(AVFrame* frame) { file_.check(av_buffersrc_add_frame(source_, frame)); }
    /// False when there are no more.
    bool receive(AVFrame* frame) {
        const int code = av_buffersink_get_frame(sink_, frame);
        if (code == AVERROR_EOF || code == AVERROR(EAGAIN)) {
            return false;
        }
        file_.check(code);
        return true;
    }

private:
    void make(AVFilterContext** filter, const char* name, const char* arguments) {
        file_.check(avfilter_graph_create_filter(filter, avfilter_get_by_name(name), name,
                                                 arguments, nullptr, graph_.get()));
    }
    static InOut end(const char* name, AVFilterContext* filter) {
        InOut ends(avfilter_inout_alloc());
        ends->name = av_strdup(name);
        ends->filter_ctx = filter;
        return ends;
    }

    const OutputFile& file_;
    std::unique_ptr<AVFilterGraph, FreeGraph> graph_;
    AVFilterContext* source_ = nullptr;
    AVFilterContext* sink_ = nullptr;
};

av::Codec open_encoder(const OutputFile& file, int width, int height, double frames_per_second) {
    const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_GIF);
    if (codec == nullptr) {
        file.fail("this FFmpeg has no GIF encoder");
    }
    av::Codec encoder(avcodec_alloc_context3(codec));
    encoder->width = width;
    encoder->height = height;
    encoder->pix_fmt = AV_PIX_FMT_PAL8;
    encoder->time_base = kHundredths;
    encoder->framerate = av_d2q(frames_per_second, 120000);
    encoder->flags |= AV_CODEC_FLAG_BITEXACT;
    file.check(avcodec_open2(encoder.get(), codec, nullptr));
    return encoder;
}

/// [H, W, 3] as a frame of its own.
av::Frame to_frame(const OutputFile& file, const at::Tensor& pixels, std::int64_t pts) {
    av::Frame frame(av_frame_alloc());
    frame->format = AV_PIX_FMT_RGB24;
    frame->height = static_cast<int>(pixels.size(0));
    frame->width = static_cast<int>(pixels.size(1));
    frame->pts = pts;
    file.check(av_frame_get_buffer(frame.get(), 0));
    const auto row_bytes = static_cast<std::size_t>(pixels.size(1) * 3);
    const std::uint8_t* row = pixels.const_data_ptr<std::uint8_t>();
    for (int y = 0; y < frame->height; ++y, row += row_bytes) {
        std::memcpy(frame->data[0] + std::ptrdiff_t{y} * frame->linesize[0], row, row_bytes);
    }
    return frame;
}

}  // namespace

void write_gif(const std::filesystem::path& path, const at::Tensor& frames,
               double frames_per_second) {
    TORCH_CHECK(frames.scalar_type() == at::kByte && frames.dim() == 4 && frames.size(3) == 3 &&
                    frames.numel() > 0,
                "write_gif: uint8 [T, H, W, 3] wanted, not ", frames.scalar_type(), " ",
                frames.sizes());
    av::silence();
    const at::Tensor pixels = frames.cpu().contiguous();
    const auto height = static_cast<int>(pixels.size(1)), width = static_cast<int>(pixels.size(2));
    OutputFile file(path);
    const av::Codec encoder = open_encoder(file, width, height, frames_per_second);
    file.open("gif", *encoder);
    Palette palette(file, width, height);
    for (std::int64_t i = 0; i < pixels.size(0); ++i) {
        const auto hundredths = std::llround(static_cast<double>(i) * 100.0 / frames_per_second);
        palette.send(to_frame(file, pixels[i], hundredths).get());
    }
    palette.send(nullptr);
    const av::Frame picture(av_frame_alloc());
    while (palette.receive(picture.get())) {
        picture->pict_type = AV_PICTURE_TYPE_NONE;
        file.encode(*encoder, picture.get());
        av_frame_unref(picture.get());
    }
    file.encode(*encoder, nullptr);
    file.finish();
}

}  // namespace matrix::media
