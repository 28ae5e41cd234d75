#include "cli/probe/parts.h"

namespace matrix::cli::probe {

const std::vector<Part>& parts() {
    static const std::vector<Part> kParts = {
        {"transformer", {"--model", "--inputs"}, {"--grad", "--adapter"}, run_transformer},
        {"vae.encode", {"--model", "--inputs"}, {"--tiling"}, run_vae_encode},
        {"vae.decode", {"--model", "--inputs"}, {"--tiling"}, run_vae_decode},
        {"rope", {"--model", "--frames", "--height", "--width"}, {}, run_rope},
        {"scheduler.train", {"--model", "--inputs"}, {}, run_scheduler_train},
        {"scheduler.ddim", {"--model", "--inputs", "--steps"}, {}, run_scheduler_step},
        {"scheduler.dpm", {"--model", "--inputs", "--steps"}, {}, run_scheduler_step},
        {"sample",
         {"--model", "--inputs", "--scheduler", "--steps", "--guidance"},
         {"--dynamic-cfg", "--adapter", "--cmg-blocks", "--cag-blocks", "--perturbation-scale"},
         run_sample},
        {"readout.v2t", {"--inputs"}, {"--readout", "--grad"}, run_readout},
        {"readout.t2v", {"--inputs"}, {"--readout", "--grad"}, run_readout},
        {"readout.v2v", {"--inputs"}, {"--readout", "--grad"}, run_readout},
        {"loss", {"--inputs"}, {"--set", "--grad"}, run_loss},
        {"head", {"--inputs", "--head"}, {"--seed", "--set", "--grad"}, run_head},
        {"objective",
         {"--model", "--inputs"},
         {"--adapter", "--set", "--heads", "--seed", "--grad", "--save-checkpoint"},
         run_objective},
#ifdef MATRIX_WITH_ENCODERS
        {"generate",
         {"--model", "--inputs", "--prompt", "--frames", "--height", "--width", "--scheduler",
          "--steps", "--guidance"},
         {"--dynamic-cfg", "--adapter", "--tiling"},
         run_generate},
        {"tokenizer", {"--model"}, {"--prompt", "--prompts"}, run_tokenizer},
        {"text", {"--model"}, {"--prompt", "--prompts"}, run_text},
        {"data", {"--config", "--index"}, {}, run_data},
#endif
    };
    return kParts;
}

}  // namespace matrix::cli::probe
