#include "distributed/packed_texts.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace matrix::distributed {
namespace {

TEST(PackedTexts, ComeBackWhateverTheirBytes) {
    const std::vector<std::string> texts{"", "12:ab", std::string("\0:\xff\n", 4), ""};
    EXPECT_EQ(unpack_texts(pack_texts(texts)), texts);
    EXPECT_TRUE(unpack_texts("").empty());
}

TEST(PackedTexts, RefusesWhatWasNotPacked) {
    for (const char* text : {"3:ab", "a", ":", "2", "1:ab", "-1:"}) {
        EXPECT_THROW((void)unpack_texts(text), c10::Error) << text;
    }
}

}  // namespace
}  // namespace matrix::distributed
