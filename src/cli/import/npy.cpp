#include "cli/import/npy.h"

#include <fstream>
#include <iterator>
#include <regex>
#include <string>

#include "matrix/core/error.h"

namespace matrix::imports {
namespace {

constexpr std::int64_t kMaxSidePx = 16384;
constexpr std::size_t kMaxHeaderBytes = 1024;  // a picture's is padded to 128

std::size_t byte_at(const std::string& bytes, std::size_t i) {
    return static_cast<unsigned char>(bytes[i]);
}

}  // namespace

NpyImage read_npy(const std::filesystem::path& file) {
    const auto fault = [&](const std::string& text) {
        return RunError(file.string() + ": " + text);
    };
    std::ifstream stream(file, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    if (!stream) {
        throw fault("cannot be read");
    }
    // Magic, version, then the header's length in two bytes (version 1) or four.
    if (bytes.size() < 12 || !bytes.starts_with("\x93NUMPY")) {
        throw fault("not a NumPy array (.npy)");
    }
    const bool long_form = bytes[6] > 1;
    const std::size_t begin = long_form ? 12 : 10;
    std::size_t length = byte_at(bytes, 8) | byte_at(bytes, 9) << 8;
    length |= long_form ? byte_at(bytes, 10) << 16 | byte_at(bytes, 11) << 24 : 0;
    if (length > bytes.size() - begin) {
        throw fault("cut short");
    }
    const std::string header = bytes.substr(begin, length);
    static const std::regex kShape(R"('shape': *\( *(\d{1,5}) *, *(\d{1,5}) *,? *\))");
    static const std::regex kKind(R"('descr': *'([<|])([ub])([12])')");
    std::smatch shape, kind;
    if (length > kMaxHeaderBytes || !std::regex_search(header, shape, kShape) ||
        !std::regex_search(header, kind, kKind) ||
        header.find("'fortran_order': False") == std::string::npos) {
        throw fault("must be [height, width] of uint8, uint16 or bool, in C order");
    }
    NpyImage image{std::stoll(shape[1]), std::stoll(shape[2]), {}};
    const std::size_t width = std::stoul(kind[3]);
    const auto count = static_cast<std::size_t>(image.height_px * image.width_px);
    if (image.height_px > kMaxSidePx || image.width_px > kMaxSidePx || count == 0) {
        throw fault("a picture of " + shape[2].str() + " x " + shape[1].str() + " pixels is none");
    }
    if (bytes.size() - begin - length != count * width) {
        throw fault("holds " + std::to_string(bytes.size() - begin - length) +
                    " bytes of values, " + std::to_string(count * width) + " are its size");
    }
    image.values.reserve(count);
    for (std::size_t i = begin + length; i < bytes.size(); i += width) {
        image.values.push_back(static_cast<std::uint16_t>(
            byte_at(bytes, i) | (width == 2 ? byte_at(bytes, i + 1) << 8 : 0)));
    }
    return image;
}

}  // namespace matrix::imports
