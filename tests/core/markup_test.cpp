#include "matrix/core/markup.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace matrix {
namespace {

TEST(Base64, HasTheVectorsOfRfc4648) {
    const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                           {"f", "Zg=="},
                                                           {"fo", "Zm8="},
                                                           {"foo", "Zm9v"},
                                                           {"foob", "Zm9vYg=="},
                                                           {"fooba", "Zm9vYmE="},
                                                           {"foobar", "Zm9vYmFy"}};
    for (const auto& [plain, coded] : vectors) {
        EXPECT_EQ(base64(plain), coded);
    }
    EXPECT_EQ(base64(std::string("\xff\xfe\x00", 3)), "//4A");
}

TEST(EscapedMarkup, NamesWhatMarkupIsMadeOf) {
    EXPECT_EQ(escaped_markup("<a href=\"x\">&amp;</a> 'é'"),
              "&lt;a href=&quot;x&quot;&gt;&amp;amp;&lt;/a&gt; 'é'");
    EXPECT_EQ(escaped_markup(""), "");
}

TEST(CsvCell, QuotesWhatWouldEndIt) {
    EXPECT_EQ(csv_cell("plain text"), "plain text");
    EXPECT_EQ(csv_cell("a,b"), "\"a,b\"");
    EXPECT_EQ(csv_cell("say \"a\""), "\"say \"\"a\"\"\"");
    EXPECT_EQ(csv_cell("two\nlines"), "\"two\nlines\"");
    EXPECT_EQ(csv_cell("old\rline"), "\"old\rline\"");
}

}  // namespace
}  // namespace matrix
