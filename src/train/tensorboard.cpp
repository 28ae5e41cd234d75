#include "matrix/train/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "matrix/core/error.h"
#include "matrix/core/files.h"

namespace matrix::train {
namespace {

constexpr std::uint32_t kCastagnoli = 0x82f63b78;  // the polynomial, bits reversed
constexpr std::uint32_t kMaskDelta = 0xa282ead8;

constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t crc = i;
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ ((crc & 1u) != 0 ? kCastagnoli : 0u);
        }
        table[i] = crc;
    }
    return table;
}();

template <typename T>
void put_little_endian(std::string& out, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        out += static_cast<char>((value >> (8 * i)) & 0xff);
    }
}

/// A protocol buffer in the making: fields in the order they are added.
class Message {
public:
    Message& varint(int field, std::uint64_t value) {
        key(field, 0);
        put_varint(value);
        return *this;
    }
    Message& real(int field, double value) {
        key(field, 1);
        put_little_endian(bytes_, std::bit_cast<std::uint64_t>(value));
        return *this;
    }
    Message& real(int field, float value) {
        key(field, 5);
        put_little_endian(bytes_, std::bit_cast<std::uint32_t>(value));
        return *this;
    }
    Message& bytes(int field, std::string_view value) {
        key(field, 2);
        put_varint(value.size());
        bytes_ += value;
        return *this;
    }
    [[nodiscard]] const std::string& text() const { return bytes_; }

private:
    void key(int field, int wire_type) {
        put_varint(static_cast<std::uint64_t>(field) << 3 | wire_type);
    }
    void put_varint(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7) {
            bytes_ += static_cast<char>(value | 0x80);
        }
        bytes_ += static_cast<char>(value);
    }

    std::string bytes_;
};

// Field numbers of event.proto and summary.proto.
constexpr int kEventWallTime = 1, kEventStep = 2, kEventFileVersion = 3, kEventSummary = 5,
              kEventSessionLog = 7;
constexpr int kSessionStatus = 1, kSessionStart = 1;
constexpr int kSummaryValue = 1, kValueTag = 1, kValueSimple = 2, kValueImage = 4;
constexpr int kImageHeight = 1, kImageWidth = 2, kImageColorspace = 3, kImageFile = 4;
constexpr std::uint64_t kRgb = 3;

double now_seconds() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

Message event(std::int64_t step) {
    Message message;
    message.real(kEventWallTime, now_seconds())
        .varint(kEventStep, static_cast<std::uint64_t>(step));
    return message;
}

/// TensorBoard reads a directory's files in the order of their names, so the numbers have leading
/// zeros.
std::string file_name() {
    std::array<char, 256> host{};
    if (::gethostname(host.data(), host.size() - 1) != 0) {
        std::strcpy(host.data(), "localhost");
    }
    char name[400];
    std::snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%010lld",
                  static_cast<long long>(now_seconds()), host.data(),
                  static_cast<long long>(::getpid()));
    return name;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
    std::uint32_t crc = 0xffffffff;
    for (const char byte : bytes) {
        crc = kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xff] ^ (crc >> 8);
    }
    return ~crc;
}

std::uint32_t masked_crc32c(std::string_view bytes) {
    return std::rotr(crc32c(bytes), 15) + kMaskDelta;
}

std::string tfrecord(std::string_view payload) {
    std::string record;
    put_little_endian(record, static_cast<std::uint64_t>(payload.size()));
    put_little_endian(record, masked_crc32c(record));
    record += payload;
    put_little_endian(record, masked_crc32c(payload));
    return record;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& directory, std::int64_t done)
    : path_(directory / file_name()) {
    std::error_code fault;
    std::filesystem::create_directories(directory, fault);
    const bool has_earlier = !std::filesystem::is_empty(directory, fault);
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND, 0644);
    if (descriptor_ < 0) {
        throw RunError(path_.string() + ": cannot write: " + std::strerror(errno));
    }
    Message version;
    version.real(kEventWallTime, now_seconds()).bytes(kEventFileVersion, "brain.Event:2");
    append(version.text());
    if (done > 0 || has_earlier) {
        Message start;
        start.varint(kSessionStatus, kSessionStart);
        // Purged are steps from this event's on.
        append(event(done + 1).bytes(kEventSessionLog, start.text()).text());
    }
}

TensorBoardWriter::~TensorBoardWriter() {
    ::close(descriptor_);
}

void TensorBoardWriter::write(std::int64_t step, const Scalars& scalars) {
    Message summary;
    for (const auto& [tag, number] : scalars) {
        Message value;
        value.bytes(kValueTag, tag).real(kValueSimple, static_cast<float>(number));
        summary.bytes(kSummaryValue, value.text());
    }
    append(event(step).bytes(kEventSummary, summary.text()).text());
}

void TensorBoardWriter::write(std::int64_t step, const Image& image) {
    Message picture;
    picture.varint(kImageHeight, static_cast<std::uint64_t>(image.height_px))
        .varint(kImageWidth, static_cast<std::uint64_t>(image.width_px))
        .varint(kImageColorspace, kRgb)
        .bytes(kImageFile, image.file);
    Message value;
    value.bytes(kValueTag, image.tag).bytes(kValueImage, picture.text());
    Message summary;
    summary.bytes(kSummaryValue, value.text());
    append(event(step).bytes(kEventSummary, summary.text()).text());
}

void TensorBoardWriter::append(std::string_view event) {
    const std::string record = tfrecord(event);
    write_all(descriptor_, record.data(), record.size(), path_);
}

}  // namespace matrix::train
