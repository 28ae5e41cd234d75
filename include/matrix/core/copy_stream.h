#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <memory>

namespace matrix {

/// Copies between a device and locked pages of the host (HostPages), in the order of the calls,
/// beside what the device computes; on a CPU, plainly and at once. Its end waits for theirs.
class CopyStream {
public:
    /// A point in that order; none until end().
    class Mark {
    public:
        Mark();
        ~Mark();

    private:
        friend CopyStream;
        struct Impl;
        std::unique_ptr<Impl> impl_;
    };

    CopyStream();
    CopyStream(const CopyStream&) = delete;
    CopyStream& operator=(const CopyStream&) = delete;
    ~CopyStream();

    /// Copies from here on wait for what the device has been given to do. One device for all calls.
    void begin(const c10::Device& device);
    void copy(void* into, const void* from, std::size_t bytes);
    void end(Mark& mark);
    /// What the device is given to do from here on waits for the copies before the mark.
    static void wait(Mark& mark);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace matrix
