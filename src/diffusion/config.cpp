#include <nlohmann/json.hpp>

#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/core/model_config.h"
#include "matrix/diffusion/noise_schedule.h"

namespace matrix::diffusion {

SchedulerConfig SchedulerConfig::from_file(const std::filesystem::path& config_json) {
    const ModelConfig file(config_json);
    file.expect_class({"CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"});
    SchedulerConfig c;
    c.class_name = file.text("_class_name", c.class_name);
    c.num_train_timesteps = file.integer("num_train_timesteps", c.num_train_timesteps, 1000, 1000);
    c.beta_start = file.number("beta_start", c.beta_start, 1e-9, 0.999);
    c.beta_end = file.number("beta_end", c.beta_end, 1e-9, 0.999);
    c.snr_shift_scale = file.number("snr_shift_scale", c.snr_shift_scale, 1e-3, 1e3);
    c.rescale_betas_zero_snr = file.flag("rescale_betas_zero_snr", c.rescale_betas_zero_snr);
    c.set_alpha_to_one = file.flag("set_alpha_to_one", c.set_alpha_to_one);
    file.only("beta_schedule", "scaled_linear");
    file.only("prediction_type", "v_prediction");
    file.only("trained_betas", nullptr);
    if (c.beta_start >= c.beta_end) {
        file.fail("beta_end", "must be larger than beta_start");
    }
    return c;
}

}  // namespace matrix::diffusion
