#include "cli/bench/targets.h"

#include "cli/bench/flop_counter.h"
#include "cli/bench/measure.h"

namespace matrix::cli::bench {

const std::vector<Target>& targets() {
    static const std::vector<Target> all = {
        {"forward", "The transformer alone, without gradients", true, prepare_forward},
        {"attention", "One block's attention, forward and backward", true, prepare_attention},
        {"readout", "What aligning one block costs: readouts, heads, losses, their gradients", true,
         prepare_readout},
        {"vae", "Encoding and decoding one clip of the preset's size", false, prepare_vae},
        {"t5", "The text encoder on one prompt", false, prepare_t5},
        {"load", "Opening the transformer's weights from a file", false, prepare_load},
        {"data", "A step's batch from encoded clips, by the loader's threads", true, prepare_data},
    };
    return all;
}

nlohmann::json bench_target(const Target& target, const Request& request) {
    const at::Device device = request.device();
    const Work work = target.prepare(request);
    if (!device.is_cpu()) {
        work.run();  // kernels that are checked and chosen by trying them are no part of the work
    }
    const double flop = counted_flop(work.run);
    const Measurement m = measure(work.run, request.warmup, request.steps, device);

    nlohmann::json conditions = machine(device);
    conditions.update(work.facts);
    conditions.update({{"dtype", request.dtype_name},
                       {"seed", request.seed},
                       {"warmup", request.warmup},
                       {"steps", request.steps}});
    nlohmann::json json = {
        {"target", target.name},
        {"seconds", spread(m.seconds)},
        {"cpu_seconds", spread(m.cpu_seconds)},
        {"peak_bytes",
         {{"host", m.host_bytes},
          {"device", m.peak_bytes},
          {"live", {{"before", m.live_bytes}, {"while_running", m.peak_bytes - m.live_bytes}}}}},
        {"flop", flop},
        {"conditions", conditions}};
    if (flop > 0) {
        const double peak = measured_peak(device, request.dtype());
        const std::vector<double>& counted = device.is_cpu() ? m.cpu_seconds : m.seconds;
        json["device_peak_flops"] = peak;
        json["share_of_peak"] = flop / median(counted) / peak;
    }
    if (work.moved_bytes > 0) {
        json["bytes_per_second"] = static_cast<double>(work.moved_bytes) / median(m.seconds);
    }
    return json;
}

}  // namespace matrix::cli::bench
