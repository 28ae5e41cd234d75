#include "matrix/train/tensorboard.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "matrix/core/error.h"

namespace matrix::train {
namespace {

namespace fs = std::filesystem;

class Directory {
public:
    Directory() {
        std::string pattern = (fs::temp_directory_path() / "matrix-tensorboard-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
    }
    ~Directory() { fs::remove_all(path_); }
    [[nodiscard]] const fs::path& path() const { return path_; }

private:
    fs::path path_;
};

std::string only_file(const fs::path& directory) {
    std::string content;
    int files = 0;
    for (const auto& entry : fs::directory_iterator(directory)) {
        EXPECT_TRUE(entry.path().filename().string().starts_with("events.out.tfevents."));
        std::ifstream stream(entry.path(), std::ios::binary);
        content.assign(std::istreambuf_iterator<char>(stream), {});
        ++files;
    }
    EXPECT_EQ(files, 1);
    return content;
}

template <typename T>
T number_at(const std::string& bytes, std::size_t at) {
    T value{};
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
}

/// Payloads of a TFRecord file; lengths and checksums are checked on the way.
std::vector<std::string> records_of(const std::string& file) {
    std::vector<std::string> records;
    std::size_t at = 0;
    while (at < file.size()) {
        const auto size = number_at<std::uint64_t>(file, at);
        EXPECT_EQ(number_at<std::uint32_t>(file, at + 8), masked_crc32c(file.substr(at, 8)));
        records.push_back(file.substr(at + 12, size));
        EXPECT_EQ(number_at<std::uint32_t>(file, at + 12 + size), masked_crc32c(records.back()));
        at += 16 + size;
    }
    EXPECT_EQ(at, file.size());
    return records;
}

// RFC 3720, appendix B.4, and the catalogue's check value.
TEST(TensorBoard, Crc32cGivesThePublishedValues) {
    EXPECT_EQ(crc32c(""), 0u);
    EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
    EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
    EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
    std::string ascending;
    for (int i = 0; i < 32; ++i) {
        ascending += static_cast<char>(i);
    }
    EXPECT_EQ(crc32c(ascending), 0x46dd794eu);
    EXPECT_EQ(masked_crc32c("123456789"), std::rotr(0xe3069283u, 15) + 0xa282ead8u);
}

TEST(TensorBoard, RecordsAreFramed) {
    const std::string record = tfrecord("payload");
    ASSERT_EQ(record.size(), 8u + 4u + 7u + 4u);
    EXPECT_EQ(number_at<std::uint64_t>(record, 0), 7u);
    EXPECT_EQ(records_of(record + tfrecord("")), (std::vector<std::string>{"payload", ""}));
}

TEST(TensorBoard, AFreshRunBeginsWithTheVersionAlone) {
    const Directory directory;
    const TensorBoardWriter writer(directory.path() / "tensorboard", 0);
    const auto records = records_of(only_file(directory.path() / "tensorboard"));
    ASSERT_EQ(records.size(), 1u);
    EXPECT_NE(records[0].find("brain.Event:2"), std::string::npos);
}

TEST(TensorBoard, AResumedRunSaysFromWhichStepOnEarlierFilesAreForgotten) {
    const Directory directory;
    const TensorBoardWriter writer(directory.path(), 300);
    const auto records = records_of(only_file(directory.path()));
    ASSERT_EQ(records.size(), 2u);
    // step (field 2) = 301 as a varint, then session_log (field 7) {status (field 1): START (1)}.
    EXPECT_EQ(records[1].substr(9), std::string("\x10\xad\x02\x3a\x02\x08\x01"));
}

TEST(TensorBoard, ARunThatBeginsAgainForgetsEveryEarlierStep) {
    const Directory directory;
    const fs::path earlier = directory.path() / "events.out.tfevents.0000000001.host.0000000001";
    std::ofstream(earlier) << "";
    const TensorBoardWriter writer(directory.path(), 0);
    fs::remove(earlier);
    const auto records = records_of(only_file(directory.path()));
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[1].substr(9), std::string("\x10\x01\x3a\x02\x08\x01"));
}

TEST(TensorBoard, AStepsScalarsAreOnDiskWhenWriteReturns) {
    const Directory directory;
    TensorBoardWriter writer(directory.path(), 0);
    writer.write(7, {{"loss", 0.5}, {"x", -2.0}});
    const auto records = records_of(only_file(directory.path()));
    ASSERT_EQ(records.size(), 2u);
    const std::string& event = records[1];
    EXPECT_EQ(event[0], '\x09');  // wall_time, a double
    // step 7; summary of two values {tag, simple_value}: 0.5 = 3f000000, -2 = c0000000.
    const std::string expected(
        "\x10\x07\x2a\x17"
        "\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f"
        "\x0a\x08\x0a\x01x\x15\x00\x00\x00\xc0",
        27);
    EXPECT_EQ(event.substr(9), expected);
}

TEST(TensorBoard, AnImageIsItsFileWithItsSize) {
    const Directory directory;
    TensorBoardWriter writer(directory.path(), 0);
    writer.write(7, TensorBoardWriter::Image{"a", 3, 300, "PNG"});
    const auto records = records_of(only_file(directory.path()));
    ASSERT_EQ(records.size(), 2u);
    // summary of one value {tag, image (field 4) {height 3, width 300, colorspace 3, file}}.
    const std::string expected(
        "\x10\x07\x2a\x13\x0a\x11\x0a\x01"
        "a\x22\x0c\x08\x03\x10\xac\x02\x18\x03\x22\x03PNG",
        23);
    EXPECT_EQ(records[1].substr(9), expected);
}

TEST(TensorBoard, ADirectoryThatCannotBeMadeIsNamed) {
    const Directory directory;
    std::ofstream(directory.path() / "file") << "x";
    try {
        const TensorBoardWriter writer(directory.path() / "file", 0);
        FAIL();
    } catch (const RunError& error) {
        EXPECT_NE(std::string(error.what()).find((directory.path() / "file").string()),
                  std::string::npos);
        EXPECT_NE(std::string(error.what()).find("cannot write"), std::string::npos);
    }
}

}  // namespace
}  // namespace matrix::train
