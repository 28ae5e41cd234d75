#include "matrix/media/geometry.h"

#include <ATen/ATen.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace matrix::media {

namespace {

void check_bytes(const at::Tensor& tensor, std::int64_t dims, const char* name) {
    TORCH_CHECK(tensor.defined() && tensor.dim() == dims && tensor.scalar_type() == at::kByte &&
                    tensor.is_cpu(),
                name, ": uint8 tensor of ", dims, " dimensions on the CPU wanted");
}

/// For each target position along one axis, the position on the mask's own axis.
std::vector<std::int64_t> nearest_sources(std::int64_t source, std::int64_t scaled,
                                          std::int64_t offset, std::int64_t target) {
    std::vector<std::int64_t> sources(static_cast<std::size_t>(target));
    for (std::int64_t i = 0; i < target; ++i) {
        sources[static_cast<std::size_t>(i)] = (2 * (i + offset) + 1) * source / (2 * scaled);
    }
    return sources;
}

}  // namespace

Geometry fit(std::int64_t source_height_px, std::int64_t source_width_px, std::int64_t height_px,
             std::int64_t width_px, Resize resize) {
    TORCH_CHECK(source_height_px > 0 && source_width_px > 0 && height_px > 0 && width_px > 0,
                "fit: positive sizes wanted");
    Geometry geometry{source_height_px, source_width_px, height_px, width_px, 0, 0,
                      height_px,        width_px};
    if (resize == Resize::kStretch) {
        return geometry;
    }
    const auto h = static_cast<double>(source_height_px), w = static_cast<double>(source_width_px);
    const double scale =
        std::max(static_cast<double>(height_px) / h, static_cast<double>(width_px) / w);
    // nearbyint rounds halves to even in the default rounding mode, which nothing here changes.
    geometry.scaled_height_px =
        std::max(height_px, static_cast<std::int64_t>(std::nearbyint(h * scale)));
    geometry.scaled_width_px =
        std::max(width_px, static_cast<std::int64_t>(std::nearbyint(w * scale)));
    geometry.top_px = (geometry.scaled_height_px - height_px) / 2;
    geometry.left_px = (geometry.scaled_width_px - width_px) / 2;
    return geometry;
}

at::Tensor resize_frames(const at::Tensor& frames, const Geometry& geometry) {
    check_bytes(frames, 4, "resize_frames");
    TORCH_CHECK(frames.size(1) == geometry.source_height_px &&
                    frames.size(2) == geometry.source_width_px && frames.size(3) == 3,
                "resize_frames: [n, ", geometry.source_height_px, ", ", geometry.source_width_px,
                ", 3] wanted, not ", frames.sizes());
    const std::int64_t num_frames = frames.size(0);
    const bool same = geometry.scaled_height_px == geometry.source_height_px &&
                      geometry.scaled_width_px == geometry.source_width_px;
    const bool grows = geometry.scaled_height_px > geometry.source_height_px ||
                       geometry.scaled_width_px > geometry.source_width_px;
    if (same) {
        return frames.narrow(1, geometry.top_px, geometry.height_px)
            .narrow(2, geometry.left_px, geometry.width_px)
            .clone(at::MemoryFormat::Contiguous);
    }
    // The pools above parallelise over clips; a second level of threads would only fight them.
    cv::setNumThreads(1);
    const at::Tensor source = frames.contiguous();
    at::Tensor out = at::empty({num_frames, geometry.height_px, geometry.width_px, 3}, at::kByte);
    const cv::Rect window(static_cast<int>(geometry.left_px), static_cast<int>(geometry.top_px),
                          static_cast<int>(geometry.width_px),
                          static_cast<int>(geometry.height_px));
    for (std::int64_t i = 0; i < num_frames; ++i) {
        const cv::Mat input(static_cast<int>(source.size(1)), static_cast<int>(source.size(2)),
                            CV_8UC3, source[i].data_ptr());
        cv::Mat scaled;
        cv::resize(input, scaled,
                   cv::Size(static_cast<int>(geometry.scaled_width_px),
                            static_cast<int>(geometry.scaled_height_px)),
                   0, 0, grows ? cv::INTER_CUBIC : cv::INTER_AREA);
        cv::Mat target(window.height, window.width, CV_8UC3, out[i].data_ptr());
        scaled(window).copyTo(target);
    }
    return out;
}

at::Tensor resize_mask(const at::Tensor& mask, const Geometry& geometry) {
    check_bytes(mask, 2, "resize_mask");
    const std::vector<std::int64_t> rows = nearest_sources(mask.size(0), geometry.scaled_height_px,
                                                           geometry.top_px, geometry.height_px);
    const std::vector<std::int64_t> columns = nearest_sources(
        mask.size(1), geometry.scaled_width_px, geometry.left_px, geometry.width_px);
    const at::Tensor source = mask.contiguous();
    at::Tensor out = at::empty({geometry.height_px, geometry.width_px}, at::kByte);
    const auto* from = source.const_data_ptr<std::uint8_t>();
    auto* to = out.mutable_data_ptr<std::uint8_t>();
    for (const std::int64_t row : rows) {
        for (const std::int64_t column : columns) {
            *to++ = from[row * source.size(1) + column];
        }
    }
    return out;
}

at::Tensor paint_id_map(const std::vector<at::Tensor>& masks,
                        const std::vector<std::int64_t>& ids) {
    static constexpr std::uint8_t kColors[5][3] = {
        {255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 0}, {255, 0, 255}};
    TORCH_CHECK(!masks.empty() && masks.size() == ids.size(),
                "paint_id_map: one ID per mask wanted");
    std::vector<std::size_t> order(masks.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
        TORCH_CHECK(ids[i] >= 1 && ids[i] <= 5, "paint_id_map: IDs run from 1 to 5, not ", ids[i]);
        check_bytes(masks[i], 2, "paint_id_map");
        TORCH_CHECK(masks[i].sizes() == masks[0].sizes(), "paint_id_map: masks differ in size");
        order[i] = i;
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return ids[a] < ids[b]; });
    at::Tensor map = at::zeros({masks[0].size(0), masks[0].size(1), 3}, at::kByte);
    auto* out = map.mutable_data_ptr<std::uint8_t>();
    for (const std::size_t i : order) {
        const at::Tensor mask = masks[i].contiguous();
        const auto* pixel = mask.const_data_ptr<std::uint8_t>();
        for (std::int64_t p = 0; p < mask.numel(); ++p) {
            if (pixel[p] != 0) {
                std::memcpy(out + 3 * p, kColors[ids[i] - 1], 3);
            }
        }
    }
    return map;
}

at::Tensor to_model_range(const at::Tensor& frames) {
    check_bytes(frames, 4, "to_model_range");
    TORCH_CHECK(frames.size(3) == 3, "to_model_range: [n, H, W, 3] wanted, not ", frames.sizes());
    return frames.permute({3, 0, 1, 2})
        .to(at::kFloat)
        .contiguous()
        .div_(255.0)
        .mul_(2.0)
        .sub_(1.0);  // [3, n, H, W]
}

at::Tensor query_cells(const at::Tensor& mask, bool nearest) {
    constexpr std::int64_t kCell_px = 16;
    check_bytes(mask, 2, "query_cells");
    TORCH_CHECK(mask.size(0) % kCell_px == 0 && mask.size(1) % kCell_px == 0,
                "query_cells: sides must be multiples of 16, not ", mask.sizes());
    const std::int64_t rows = mask.size(0) / kCell_px, columns = mask.size(1) / kCell_px;
    const at::Tensor blocks =
        mask.ne(0).view({rows, kCell_px, columns, kCell_px});  // [gh, 16, gw, 16]
    if (nearest) {
        return blocks.select(3, 0).select(1, 0).to(at::kByte).contiguous();
    }
    const at::Tensor covered = blocks.sum({1, 3}).contiguous();  // [gh, gw] int64
    at::Tensor cells = covered.ge(kCell_px * kCell_px / 2).to(at::kByte);
    const auto* count = covered.const_data_ptr<std::int64_t>();
    const auto* best = std::max_element(count, count + covered.numel());
    if (*best > 0 && *best < kCell_px * kCell_px / 2) {
        cells.mutable_data_ptr<std::uint8_t>()[best - count] = 1;
    }
    return cells;
}

}  // namespace matrix::media
