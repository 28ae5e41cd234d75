#include "matrix/train/metrics.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "matrix/core/files.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix {
namespace {

using train::MetricsFile;

std::string line(std::int64_t step) {
    return "{\"loss\":0.5,\"step\":" + std::to_string(step) + "}\n";
}

/// What stands in the file after opening it at `last_step` over `content`.
std::string reopened(const std::string& content, std::int64_t last_step) {
    const test::TempDirectory directory;
    write_file_atomically(directory / "metrics.jsonl", content);
    { const MetricsFile metrics(directory / "metrics.jsonl", last_step); }
    return read_text_file(directory / "metrics.jsonl");
}

TEST(MetricsFile, AppendsOneLineARecord) {
    const test::TempDirectory directory;
    MetricsFile metrics(directory / "metrics.jsonl", 0);
    EXPECT_EQ(read_text_file(directory / "metrics.jsonl"), "");
    metrics.append({{"step", 1}, {"loss", 0.5}});
    metrics.append({{"step", 2}, {"loss", 0.5}});
    EXPECT_EQ(read_text_file(directory / "metrics.jsonl"), line(1) + line(2));
}

TEST(MetricsFile, CutsBackToTheStep) {
    const std::string content = line(1) + line(2) + line(3);
    EXPECT_EQ(reopened(content, 3), content);
    EXPECT_EQ(reopened(content, 2), line(1) + line(2));
    EXPECT_EQ(reopened(content, 0), "");
}

TEST(MetricsFile, CutsATornOrForeignLine) {
    EXPECT_EQ(reopened(line(1) + line(2) + "{\"loss\":0.", 9), line(1) + line(2));
    EXPECT_EQ(reopened(line(1) + line(2).substr(0, 5) + "\n" + line(3), 9), line(1) + line(3));
    // Whole, but for its end: the next line would be glued to it.
    const std::string unended = line(2).substr(0, line(2).size() - 1);
    EXPECT_EQ(reopened(line(1) + unended, 9), line(1));
    EXPECT_EQ(reopened(line(1) + "{\"step\":\"two\"}\n", 9), line(1));
    EXPECT_EQ(reopened(line(1) + std::string(7, '\0') + "\n", 9), line(1));
}

TEST(MetricsFile, GoesOnAfterTheCut) {
    const test::TempDirectory directory;
    write_file_atomically(directory / "metrics.jsonl", line(1) + line(2) + "{\"st");
    MetricsFile metrics(directory / "metrics.jsonl", 1);
    metrics.append({{"step", 2}, {"loss", 0.5}});
    metrics.sync();
    EXPECT_EQ(read_text_file(directory / "metrics.jsonl"), line(1) + line(2));
}

TEST(MetricsFile, SaysWhereItCannotWrite) {
    const test::TempDirectory directory;
    write_file_atomically(directory / "file", "");
    test::expect_error([&] { const MetricsFile metrics(directory / "file" / "metrics.jsonl", 0); },
                       {"file/metrics.jsonl: cannot write: Not a directory"});
}

}  // namespace
}  // namespace matrix
