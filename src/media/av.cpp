#include "media/av.h"

#include <array>

namespace matrix::media::av {

std::string error_text(int code) {
    std::array<char, AV_ERROR_MAX_STRING_SIZE> text{};
    av_strerror(code, text.data(), text.size());
    return text.data();
}

void silence() {
    av_log_set_level(AV_LOG_QUIET);
}

}  // namespace matrix::media::av
