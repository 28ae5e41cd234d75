#include "matrix/prepare/on_the_fly.h"

#include "matrix/core/device_memory.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/data_source/doctor.h"
#include "matrix/data_source/sample.h"
#include "matrix/log/log.h"
#include "prepare/encode_clip.h"

#include <ATen/ATen.h>

#include <map>
#include <mutex>

namespace matrix::prepare {

struct OnTheFlySource::Impl {
    explicit Impl(const PrepareOptions& o) : options(o), tokenizer(o.model / "tokenizer") {}

    PrepareOptions options;
    text::T5Tokenizer tokenizer;
    data_source::Manifest manifest;
    std::map<std::string, at::Tensor> prompts;  // text to [L, D_t]
    Encode encode;
    std::mutex encode_mutex;
};

OnTheFlySource::OnTheFlySource(const PrepareOptions& options, const Encoders& encoders)
    : impl_(std::make_unique<Impl>(options)) {
    const auto report =
        data_source::check_dataset(options.data, &impl_->tokenizer, data_source::Depth::kHeaders);
    if (!report.faults.empty()) {
        throw RunError(report.faults);
    }
    for (const std::string& note : report.notes) {
        log::warning(note);
    }
    impl_->manifest = data_source::read_manifest(options.data.path);
    impl_->prompts[""] = at::Tensor();
    for (const data_source::Row& row : impl_->manifest.rows) {
        impl_->prompts[data_source::prompt_text(row, options.data)] = at::Tensor();
    }
    std::vector<std::string> texts;
    for (const auto& [text, embedding] : impl_->prompts) {
        texts.push_back(text);
    }
    {
        const Encode encode = encoders.load_text();
        encode_prompts(encode, impl_->tokenizer.input_ids(texts),
                       [&](std::int64_t i, const at::Tensor& embedding) {
                           impl_->prompts[texts[static_cast<std::size_t>(i)]] = embedding.clone();
                       });
    }
    release_cached_memory();
    impl_->encode = encoders.load_video();
    if (report.num_without_interactions > 0) {
        log::info(options.data.path + ": " + std::to_string(report.num_without_interactions) +
                  " of " + std::to_string(report.num_clips) +
                  " clips without interactions: they train the denoising loss alone");
    }
}

OnTheFlySource::~OnTheFlySource() = default;

std::int64_t OnTheFlySource::size() const {
    return static_cast<std::int64_t>(impl_->manifest.rows.size());
}

std::string OnTheFlySource::fingerprint() const {
    std::string rows;
    for (const data_source::Row& row : impl_->manifest.rows) {
        rows += row.video + '\n' + row.prompt + '\n';
    }
    return hash_text(rows);
}

at::Tensor OnTheFlySource::empty_prompt() const {
    return impl_->prompts.at("");
}

data_cache::EncodedSample OnTheFlySource::get(std::int64_t index, std::uint64_t seed,
                                              std::uint64_t sample_number) const {
    TORCH_CHECK(index >= 0 && index < size(), "sample ", index, " of ", size());
    const auto raw = data_source::load_sample(impl_->manifest.rows[static_cast<std::size_t>(index)],
                                              impl_->options.data, impl_->tokenizer,
                                              impl_->options.nearest_query);
    data_cache::EncodedSample sample;
    sample.name = raw.name;
    sample.prompt = impl_->prompts.at(raw.prompt);
    sample.token_mask = raw.token_mask;
    sample.query_mask = raw.query_mask;
    sample.masks = raw.masks;
    const at::Tensor noisy =
        noisy_first_frame(raw.video.narrow(1, 0, 1), seed, sample_number);  // [3, 1, H, W]
    const std::lock_guard lock(impl_->encode_mutex);
    sample.video_moments = encode_finite(impl_->encode, raw.video, raw.name);
    sample.image_moments = encode_finite(impl_->encode, noisy, raw.name);
    if (raw.id_map.defined() && raw.has_masks) {
        sample.id_map_mean = encode_id_map(impl_->encode, raw.id_map, raw.name);
    }
    return sample;
}

}  // namespace matrix::prepare
