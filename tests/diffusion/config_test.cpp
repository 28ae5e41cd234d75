#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "matrix/diffusion/noise_schedule.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix::diffusion {
namespace {

class SchedulerConfigFile : public testing::Test {
protected:
    [[nodiscard]] SchedulerConfig read(const std::string& fields) const {
        std::ofstream(directory_ / "scheduler_config.json")
            << R"({"_class_name": "CogVideoXDDIMScheduler")" << fields << "}";
        return SchedulerConfig::from_file(directory_ / "scheduler_config.json");
    }
    test::TempDirectory directory_;
};

TEST_F(SchedulerConfigFile, PublishedImageToVideoModel) {
    const SchedulerConfig c =
        read(R"(, "_diffusers_version": "0.30", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "clip_sample": false, "num_train_timesteps": 1000, "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": true, "set_alpha_to_one": true, "snr_shift_scale": 1.0, "timestep_spacing": "trailing",
        "trained_betas": null)");
    EXPECT_EQ(c.snr_shift_scale, 1.0);
    EXPECT_TRUE(c.rescale_betas_zero_snr);
    EXPECT_EQ(c.beta_start, 0.00085);
}

TEST_F(SchedulerConfigFile, AbsentFieldsTakeTheDefaults) {
    const SchedulerConfig c = read(R"(, "prediction_type": "v_prediction")");
    EXPECT_EQ(c.snr_shift_scale, 3.0);
    EXPECT_FALSE(c.rescale_betas_zero_snr);
}

TEST_F(SchedulerConfigFile, RefusesOtherSchedules) {
    const auto refuses = [&](const std::string& field) {
        const std::string name = field.substr(1, field.find('"', 1) - 1);
        test::expect_error([&] { (void)read(", " + field); }, {"scheduler_config.json", name});
    };
    refuses(R"("beta_schedule": "linear")");
    refuses(R"("prediction_type": "epsilon")");
    refuses(R"("trained_betas": [0.1])");
    refuses(R"("num_train_timesteps": 1000000000000)");
    refuses(R"("beta_start": "x")");
    refuses(R"("beta_end": 2)");
    refuses(R"("beta_end": 0.00001)");
    refuses(R"("snr_shift_scale": 0)");
    refuses(R"("rescale_betas_zero_snr": 1)");
}

TEST_F(SchedulerConfigFile, RefusesOtherClasses) {
    std::ofstream(directory_ / "c.json") << R"({"_class_name": "EulerDiscreteScheduler"})";
    test::expect_error([&] { (void)SchedulerConfig::from_file(directory_ / "c.json"); },
                       {"_class_name", "CogVideoXDPMScheduler"});
}

}  // namespace
}  // namespace matrix::diffusion
