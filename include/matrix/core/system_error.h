#pragma once

#include <string>

#include "matrix/core/error.h"

namespace matrix {

/// A file that the system would not open, read or write.
class SystemError : public RunError {
public:
    SystemError(const std::string& message, int reason) : RunError(message), reason_(reason) {}
    /// The value of errno.
    [[nodiscard]] int reason() const noexcept { return reason_; }

private:
    int reason_;
};

}  // namespace matrix
