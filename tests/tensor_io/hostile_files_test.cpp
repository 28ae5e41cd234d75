#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "matrix/tensor_io/safetensors.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix::tensor_io {
namespace {

using test::expect_error;
using test::TempDirectory;

void write_raw(const std::filesystem::path& path, std::uint64_t header_bytes,
               const std::string& rest) {
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes));
    file.write(rest.data(), static_cast<std::streamsize>(rest.size()));
}

struct Hostile {
    const char* name;
    std::string header;
    std::size_t data_bytes;
    const char* fault;
};

std::ostream& operator<<(std::ostream& out, const Hostile& file) {
    return out << file.name;
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
           "}}";
}

std::string repeat(const std::string& text, int count) {
    std::string result;
    for (int i = 0; i < count; ++i) {
        result += text;
    }
    return result;
}

class HostileFiles : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileFiles, IsAnErrorThatNamesTheFile) {
    const TempDirectory dir;
    const auto path = dir / "x.safetensors";
    write_raw(path, GetParam().header.size(),
              GetParam().header + std::string(GetParam().data_bytes, '\0'));
    expect_error([&] { SafetensorsFile file(path); }, {path.string() + ": ", GetParam().fault});
}

const std::string kGood = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";

INSTANTIATE_TEST_SUITE_P(
    Headers, HostileFiles,
    ::testing::Values(
        Hostile{"not_an_object", "[]", 0, "does not begin with"},
        Hostile{"nothing", "", 0, "does not begin with"},
        Hostile{"blank_first", " {}", 0, "does not begin with"},
        Hostile{"unclosed", "{", 0, "not well-formed JSON"},
        Hostile{"trailing_text", "{} x", 0, "not well-formed JSON"},
        Hostile{"trailing_nul", std::string("{}\0", 3), 0, "NUL"},
        Hostile{"bad_utf8", "{\"\xff\":{" + kGood + "}}", 4, "not well-formed JSON"},
        Hostile{"deep_list", R"({"a":)" + std::string(1'000'000, '['), 0,
                "\"a\": described by a list"},
        Hostile{"deep_object", "{" + repeat("\"a\":{", 200'000), 0, "unknown field \"a\""},
        Hostile{"deep_shape", R"({"a":{"shape":)" + std::string(1'000'000, '['), 0,
                "\"a\": shape holds a list"},
        Hostile{"tensor_is_null", R"({"a":null})", 0, "\"a\": described by null"},
        Hostile{"tensor_is_true", R"({"a":true})", 0, "\"a\": described by true or false"},
        Hostile{"duplicate_tensor", R"({"a":{)" + kGood + R"(},"a":{)" + kGood + "}}", 4,
                "names \"a\" twice"},
        Hostile{"duplicate_field", R"({"a":{"dtype":"F32",)" + kGood + "}}", 4,
                "\"a\": the field \"dtype\" stands twice"},
        Hostile{"no_dtype", R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4,
                "\"a\": no field \"dtype\""},
        Hostile{"no_shape", R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4,
                "\"a\": no field \"shape\""},
        Hostile{"no_offsets", R"({"a":{"dtype":"F32","shape":[1]}})", 4,
                "\"a\": no field \"data_offsets\""},
        Hostile{"unknown_dtype", entry("\"F4\"", "[1]", "[0,4]"), 4,
                "dtype \"F4\" is not supported"},
        Hostile{"dtype_number", entry("4", "[1]", "[0,4]"), 4, "\"a\": dtype is a number"},
        Hostile{"dtype_list", entry("[\"F32\"]", "[1]", "[0,4]"), 4, "\"a\": dtype is a list"},
        Hostile{"shape_string", entry("\"F32\"", "\"1\"", "[0,4]"), 4, "\"a\": shape is a string"},
        Hostile{"shape_null", entry("\"F32\"", "null", "[0,4]"), 4, "\"a\": shape is null"},
        Hostile{"shape_negative", entry("\"F32\"", "[-1]", "[0,4]"), 4,
                "\"a\": shape holds a negative number"},
        Hostile{"shape_fraction", entry("\"F32\"", "[1.0]", "[0,4]"), 4, "shape holds a fraction"},
        Hostile{"shape_huge", entry("\"F32\"", "[1e30]", "[0,4]"), 4, "shape holds a fraction"},
        Hostile{"shape_over_64_bits", entry("\"F32\"", "[18446744073709551617]", "[0,4]"), 4,
                "shape holds a fraction"},
        Hostile{"shape_over_63_bits", entry("\"F32\"", "[9223372036854775808]", "[0,4]"), 4,
                "which is too large"},
        Hostile{"product_overflows_to_4", entry("\"F32\"", "[4294967296,4294967296,1]", "[0,0]"), 0,
                "is too large"},
        Hostile{"product_overflows_by_bytes", entry("\"F64\"", "[2305843009213693953]", "[0,8]"), 8,
                "is too large"},
        Hostile{"empty_with_huge_strides", entry("\"F32\"", "[0,4294967296,4294967296]", "[0,0]"),
                0, "is too large"},
        Hostile{"too_many_dims", entry("\"F32\"", "[" + repeat("1,", 64) + "1]", "[0,4]"), 4,
                "more than 64 numbers"},
        Hostile{"one_offset", entry("\"F32\"", "[1]", "[4]"), 4, "data_offsets has 1 numbers"},
        Hostile{"three_offsets", entry("\"F32\"", "[1]", "[0,4,8]"), 8,
                "data_offsets has 3 numbers"},
        Hostile{"offsets_backwards", entry("\"F32\"", "[1]", "[4,0]"), 4, "do not lie in"},
        Hostile{"offsets_behind_the_end", entry("\"F32\"", "[1]", "[4,8]"), 4, "do not lie in"},
        Hostile{"offsets_near_2_63",
                entry("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4,
                "do not lie in"},
        Hostile{"truncated_data", entry("\"F32\"", "[2]", "[0,8]"), 7, "is it truncated?"},
        Hostile{"shape_and_span_differ", entry("\"F32\"", "[2]", "[0,4]"), 4,
                "shape [2] of F32 takes 8 bytes, its data_offsets hold 4"},
        Hostile{"hole_in_front", entry("\"F32\"", "[1]", "[4,8]"), 8, "its data begins at 4"},
        Hostile{"hole",
                R"({"a":{)" + kGood + R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                12, "\"b\": its data begins at 8, where the one before ends at 4"},
        Hostile{"overlap",
                R"({"a":{)" + kGood + R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                6, "\"b\": its data begins at 2, where the one before ends at 4"},
        Hostile{"shared_span", R"({"a":{)" + kGood + R"(},"b":{)" + kGood + "}}", 4,
                "\"b\": its data begins at 0, where the one before ends at 4"},
        Hostile{"trailing_bytes", R"({"a":{)" + kGood + "}}", 5, "1 bytes after the last tensor"},
        Hostile{"metadata_number", R"({"__metadata__":{"a":1}})", 0,
                "__metadata__ \"a\" is a number, expected a string"},
        Hostile{"metadata_nested", R"({"__metadata__":{"a":{}}})", 0,
                "__metadata__ \"a\" is an object"},
        Hostile{"metadata_list", R"({"__metadata__":[]})", 0,
                "\"__metadata__\": described by a list"},
        Hostile{"metadata_key_twice", R"({"__metadata__":{"a":"","a":""}})", 0,
                "__metadata__ names \"a\" twice"},
        Hostile{"metadata_twice", R"({"__metadata__":{},"__metadata__":{}})", 0,
                "names \"__metadata__\" twice"}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(HostileSizes, TooShortForAHeader) {
    const TempDirectory dir;
    for (const std::size_t bytes : {0, 1, 7}) {
        std::ofstream(dir / "x", std::ios::binary) << std::string(bytes, '\1');
        expect_error([&] { SafetensorsFile file(dir / "x"); }, {(dir / "x").string(), "too few"});
    }
}

TEST(HostileSizes, HeaderLargerThanTheFileOrTheLimit) {
    const TempDirectory dir;
    const auto path = dir / "x";
    for (const std::uint64_t claimed :
         {std::uint64_t{3}, std::uint64_t{1} << 40, ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
        write_raw(path, claimed, "{}");
        expect_error([&] { SafetensorsFile file(path); },
                     {path.string(), "its header would have " + std::to_string(claimed)});
    }
    // A sparse file: large enough for the claim, and nothing of it may be read.
    write_raw(path, 100'000'001, "{}");
    std::filesystem::resize_file(path, std::uintmax_t{1} << 40);
    expect_error([&] { SafetensorsFile file(path); }, {"at most 100000000"});
}

TEST(HostileSizes, AnythingButAFile) {
    const TempDirectory dir;
    expect_error([&] { SafetensorsFile file(dir / "none"); }, {"none: cannot open"});
    expect_error([&] { SafetensorsFile file(dir.path()); }, {"Is a directory"});
    ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
    expect_error([&] { SafetensorsFile file(dir / "pipe"); }, {"pipe: cannot read"});
}

// Every prefix of a good file, and every single byte of its header changed: an error or a file,
// never a crash.
TEST(HostileSizes, DamagedFilesNeverCrash) {
    const TempDirectory dir;
    const auto path = dir / "x";
    const std::string header =
        R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}})";
    int refused = 0;
    for (std::size_t cut = 0; cut < header.size() + 8; ++cut) {
        write_raw(path, header.size(), (header + std::string(8, 'x')).substr(0, cut));
        EXPECT_THROW(SafetensorsFile file(path), RunError) << cut;
    }
    for (std::size_t at = 0; at < header.size(); ++at) {
        for (const char c : {'\0', '"', '9', '{', ']', ',', '\xff', '-'}) {
            std::string damaged = header;
            damaged[at] = c;
            write_raw(path, header.size(), damaged + std::string(8, 'x'));
            try {
                for (const auto& [key, tensor] : SafetensorsFile(path).all()) {
                    EXPECT_EQ(tensor.nbytes(), 8u);
                }
            } catch (const RunError&) {
                ++refused;
            }
        }
    }
    EXPECT_GT(refused, 400);
}

}  // namespace
}  // namespace matrix::tensor_io
