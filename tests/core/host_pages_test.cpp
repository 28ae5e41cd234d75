#include "matrix/core/host_pages.h"

#include <c10/core/Device.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>

#include "matrix/core/error.h"

namespace matrix {
namespace {

TEST(HostPages, HoldBytesAndMove) {
    HostPages pages(5000, c10::Device(c10::kCPU), "a test");
    ASSERT_EQ(pages.bytes(), 5000u);
    std::memset(pages.data(), 7, pages.bytes());
    const HostPages moved = std::move(pages);
    EXPECT_EQ(moved.data()[4999], std::byte{7});
}

TEST(HostPages, ThatTheHostHasNotAreRefusedWithARemedy) {
    try {
        const HostPages pages(std::size_t{1} << 60, c10::Device(c10::kCPU), "giants; be modest");
        FAIL();
    } catch (const RunError& error) {
        EXPECT_NE(std::string(error.what()).find("MiB more for giants; be modest"),
                  std::string::npos);
    }
}

}  // namespace
}  // namespace matrix
