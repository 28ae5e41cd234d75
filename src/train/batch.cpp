#include "matrix/train/batch.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "matrix/core/error.h"
#include "matrix/core/random.h"
#include "matrix/core/shape.h"
#include "matrix/models/posterior.h"

// Letters: C latent channels, F latent frames, h x w latents, N interactions, L text rows.

namespace matrix::train {
namespace {

/// A posterior sample of [2C, F, h, w] moments, as [F, C, h, w].
at::Tensor sample_moments(const at::Tensor& moments, std::uint64_t seed, Purpose purpose,
                          std::int64_t number) {
    const at::Tensor noise = keyed_normal(models::posterior_mean(moments).sizes(), seed, purpose,
                                          static_cast<std::uint64_t>(number));
    return models::sample_posterior(moments, noise).transpose(0, 1);
}

/// [1, C, h, w] in front of zeros, [F, C, h, w].
at::Tensor first_frame_only(const at::Tensor& frame, std::int64_t frames) {
    at::Tensor padded =
        at::zeros({frames, frame.size(1), frame.size(2), frame.size(3)}, frame.options());
    padded.narrow(0, 0, 1).copy_(frame);
    return padded;
}

/// Repeats the first frame in front until the count is a multiple: what the 1.5 models' temporal
/// patches want.
at::Tensor pad_front(const at::Tensor& latents, std::int64_t multiple) {
    const std::int64_t missing = (multiple - latents.size(0) % multiple) % multiple;
    return missing == 0
               ? latents
               : at::cat({latents.narrow(0, 0, 1).expand({missing, -1, -1, -1}), latents}, 0);
}

/// Stacks [N_i, ...] of several samples into [B, max N, ...] with rows of zeros.
at::Tensor stack_padded(const std::vector<at::Tensor>& tensors) {
    std::int64_t rows = 0;
    for (const at::Tensor& tensor : tensors) {
        rows = std::max(rows, tensor.size(0));
    }
    std::vector<std::int64_t> shape = tensors.front().sizes().vec();
    shape[0] = rows;
    shape.insert(shape.begin(), static_cast<std::int64_t>(tensors.size()));
    at::Tensor stacked = at::zeros(shape, tensors.front().options());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        stacked[static_cast<std::int64_t>(i)].narrow(0, 0, tensors[i].size(0)).copy_(tensors[i]);
    }
    return stacked;
}

}  // namespace

Batch make_batch(const std::vector<data_cache::EncodedSample>& samples,
                 const std::vector<std::int64_t>& numbers, const at::Tensor& empty_prompt,
                 const BatchRules& rules) {
    TORCH_CHECK(!samples.empty() && samples.size() == numbers.size(),
                "make_batch: samples and numbers differ");
    Batch batch;
    std::vector<at::Tensor> latents, noise, images, id_maps, prompts, token_masks, query_masks,
        masks;
    at::Tensor timestep = at::empty({static_cast<std::int64_t>(samples.size())}, at::kLong);
    const double image_factor =
        rules.invert_scale_latents ? 1.0 / rules.scaling_factor : rules.scaling_factor;

    for (std::size_t i = 0; i < samples.size(); ++i) {
        const data_cache::EncodedSample& sample = samples[i];
        const std::int64_t number = numbers[i];
        const auto key = static_cast<std::uint64_t>(number);
        const auto drawn = [&](double probability, Purpose purpose) {
            return probability > 0 && keyed_uniform(rules.seed, purpose, key) < probability;
        };
        const bool drop_image = drawn(rules.image_dropout, Purpose::kImageDropout);
        const bool drop_caption = drawn(rules.caption_dropout, Purpose::kCaptionDropout);
        const bool drop_id_map = drawn(rules.id_map_dropout, Purpose::kIdMapDropout);

        const at::Tensor x0 =
            sample_moments(sample.video_moments, rules.seed, Purpose::kVideoPosterior, number) *
            rules.scaling_factor;  // [F, C, h, w]
        latents.push_back(pad_front(x0, rules.temporal_patch));
        noise.push_back(keyed_normal(latents.back().sizes(), rules.seed, Purpose::kNoise, key));

        // The image stands in the first of the padded frames alone, as where a video is generated.
        const std::int64_t frames = latents.back().size(0);
        at::Tensor image = first_frame_only(
            sample_moments(sample.image_moments, rules.seed, Purpose::kImagePosterior, number) *
                image_factor,
            frames);
        images.push_back(drop_image ? at::zeros_like(image) : image);
        if (rules.id_map) {
            const at::Tensor frame = sample.id_map_mean.defined() && !drop_id_map
                                         ? sample.id_map_mean.transpose(0, 1) * image_factor
                                         : at::zeros_like(image.narrow(0, 0, 1));
            id_maps.push_back(first_frame_only(frame, frames));
        }
        prompts.push_back(drop_caption ? empty_prompt : sample.prompt);
        token_masks.push_back(drop_caption || drop_image ? at::zeros_like(sample.token_mask)
                                                         : sample.token_mask);
        query_masks.push_back(drop_image ? at::zeros_like(sample.query_mask) : sample.query_mask);
        masks.push_back(sample.masks);
        timestep[static_cast<std::int64_t>(i)] =
            keyed_integer(rules.num_timesteps, rules.seed, Purpose::kTimestep, key);

        batch.images_dropped += drop_image ? 1 : 0;
        batch.captions_dropped += drop_caption ? 1 : 0;
        batch.id_maps_dropped += rules.id_map && drop_id_map ? 1 : 0;
        batch.names.push_back(sample.name);
    }
    batch.latents = at::stack(latents);
    batch.noise = at::stack(noise);
    batch.image_latents = at::stack(images);
    if (rules.id_map) {
        batch.id_map_latents = at::stack(id_maps);
    }
    batch.encoder_hidden_states = at::stack(prompts);
    batch.timestep = timestep;
    batch.supervision = {stack_padded(token_masks), stack_padded(query_masks), stack_padded(masks)};
    batch.sample_numbers = numbers;
    return batch;
}

std::int64_t SampleOrder::row(std::int64_t number) {
    const std::int64_t epoch = number / size_;
    if (epoch != epoch_) {
        const at::Tensor order = at::randperm(
            size_, keyed_generator(seed_, Purpose::kSampleOrder, static_cast<std::uint64_t>(epoch)),
            at::kLong);
        permutation_.assign(order.const_data_ptr<std::int64_t>(),
                            order.const_data_ptr<std::int64_t>() + size_);
        epoch_ = epoch;
    }
    return permutation_[static_cast<std::size_t>(number % size_)];
}

}  // namespace matrix::train
