#include "matrix/data_source/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "data_source/csv.h"
#include "data_source/dataset.h"
#include "matrix/data_source/metadata.h"
#include "support/errors.h"

namespace matrix::data_source {
namespace {

using test::Dataset;
using test::expect_error;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> faults_of(const Dataset& data) {
    try {
        (void)read_manifest(data.root());
    } catch (const RunError& e) {
        return e.faults();
    }
    return {};
}

TEST(Csv, FollowsRfc4180) {
    std::vector<std::string> faults;
    const auto records = parse_csv(
        "\xEF\xBB\xBFvideo,prompt\r\n\"a,\"\"b\"\"\",\"two\nlines\"\r\n\r\nlast,\n,", faults);
    ASSERT_TRUE(faults.empty());
    ASSERT_EQ(records.size(), 4U);
    EXPECT_THAT(records[0].cells, ElementsAre("video", "prompt"));
    EXPECT_THAT(records[1].cells, ElementsAre("a,\"b\"", "two\nlines"));
    EXPECT_THAT(records[2].cells, ElementsAre("last", ""));
    EXPECT_EQ(records[2].line, 5);
    EXPECT_THAT(records[3].cells, ElementsAre("", ""));
}

TEST(Csv, ReportsEveryBrokenLine) {
    std::vector<std::string> faults;
    const auto records = parse_csv("a,b\"c\nfine,2\n\"x\"y,1\n\"never closed\n", faults);
    EXPECT_THAT(faults, ElementsAre(HasSubstr("line 1: a quote inside"),
                                    HasSubstr("line 3: text after a closing quote"),
                                    HasSubstr("line 4: a quoted cell is never closed")));
    ASSERT_EQ(records.size(), 1U);
    EXPECT_THAT(records[0].cells, ElementsAre("fine", "2"));
}

void expect_row_a(const Row& row) {
    EXPECT_EQ(row.video, "videos/a.mp4");
    EXPECT_EQ(row.mask_root, "mask_annotation/a");
    EXPECT_EQ(row.prompt, "A <id1> man lifts a <id2> box.");
    ASSERT_EQ(row.interactions.size(), 1U);
    EXPECT_EQ(row.interactions[0].subject.text, "<id1> man");
    EXPECT_EQ(row.interactions[0].subject.id, 1);
    EXPECT_EQ(row.interactions[0].verb.text, "lifts");
    ASSERT_TRUE(row.interactions[0].object.has_value());
    EXPECT_EQ(row.interactions[0].object->id, 2);
}

TEST(Manifest, ReadsAllThreeKinds) {
    const std::string row = Dataset::a_row();
    std::string cell = row.substr(row.find('['));
    cell.pop_back();
    std::string quoted;
    for (const char c : cell) {
        quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    }
    const std::vector<std::pair<std::string, std::string>> kinds = {
        {"metadata.jsonl", "\n" + row + "\r\n\n"},
        {"metadata.json", "[" + row + "]"},
        {"metadata.csv", "interactions,other,video,prompt\r\n\"" + quoted +
                             "\",x,a.mp4,A <id1> man lifts a <id2> box.\r\n"}};
    for (const auto& [name, text] : kinds) {
        SCOPED_TRACE(name);
        const Dataset data;
        data.write(name, text);
        const Manifest manifest = read_manifest(data.root());
        EXPECT_EQ(manifest.file.filename(), name);
        ASSERT_EQ(manifest.rows.size(), 1U);
        expect_row_a(manifest.rows[0]);
    }
}

TEST(Manifest, RolesMayBeProposed) {
    const Dataset data;
    const auto row = [](const std::string& mark) {
        return R"([{"video": "a.mp4", "prompt": "A man sits.", "interactions": [{"subject":)"
               R"({"phrase": "man", "id": 1}, "verb": {"phrase": "sits"}, "proposed": )" +
               mark + "}]}]";
    };
    for (const bool proposed : {true, false}) {
        data.write("metadata.json", row(proposed ? "true" : "false"));
        EXPECT_EQ(read_manifest(data.root()).rows[0].interactions[0].proposed, proposed);
    }
    data.write("metadata.json", row("\"yes\""));
    EXPECT_THAT(faults_of(data),
                ElementsAre(HasSubstr("interactions[0].proposed: must be true or false")));
}

TEST(Metadata, IsWrittenAsItWasRead) {
    const std::string row = Dataset::a_row();
    const std::vector<std::pair<std::string, std::string>> kinds = {
        {"metadata.jsonl", row + "\n" + R"({"prompt": "x", "other": [1], "video": "b.mp4"})"},
        {"metadata.json", "[" + row + R"(, {"prompt": "x", "other": [1], "video": "b.mp4"}])"},
        {"metadata.csv",
         "other,video,prompt,interactions\nx,a.mp4,\"two\nlines, \"\"q\"\"\",\n"
         "y,b.mp4,Rain,\"[{\"\"subject\"\": 1}]\"\n"}};
    for (const auto& [name, text] : kinds) {
        SCOPED_TRACE(name);
        const Dataset data;
        data.write(name, text);
        std::vector<std::string> faults;
        const auto records = read_records(data.root() / name, faults);
        ASSERT_EQ(records.size(), 2U);
        const std::string written = write_records(data.root() / name, records);
        EXPECT_THAT(written, HasSubstr(name == "metadata.csv" ? "video,prompt,interactions,other\n"
                                                              : R"({"video":"a.mp4","prompt":)"));
        data.write(name, written);
        const auto again = read_records(data.root() / name, faults);
        ASSERT_EQ(again.size(), 2U);
        EXPECT_EQ(again[0].row, records[0].row);
        EXPECT_EQ(again[1].row, records[1].row);
        EXPECT_TRUE(faults.empty());
    }
}

TEST(Manifest, FindsVideosBelowVideosFirst) {
    const Dataset data;
    data.write("videos/sub/a.mp4", "");
    data.write("elsewhere/b.c.mp4", "");
    data.write("metadata.json", R"([{"video": "sub/a.mp4", "prompt": ""},
                                    {"video": "elsewhere/b.c.mp4", "prompt": ""},
                                    {"video": "videos/nowhere.mp4", "prompt": ""}])");
    data.write("videos/nowhere.mp4", "");
    const auto rows = read_manifest(data.root()).rows;
    ASSERT_EQ(rows.size(), 3U);
    EXPECT_EQ(rows[0].video, "videos/sub/a.mp4");
    EXPECT_EQ(rows[0].mask_root, "mask_annotation/sub/a");
    EXPECT_EQ(rows[1].video, "elsewhere/b.c.mp4");
    EXPECT_EQ(rows[1].mask_root, "mask_annotation/elsewhere/b.c");
    EXPECT_EQ(rows[2].video, "videos/nowhere.mp4");
    EXPECT_EQ(rows[2].mask_root, "mask_annotation/nowhere");
}

TEST(Manifest, ReportsEveryFaultWithFileAndRow) {
    const Dataset data;
    data.write("metadata.jsonl", R"({"video": "a.mp4", "prompt": 3})"
                                 "\n{broken\n"
                                 R"({"prompt": "x", "interaction": []})"
                                 "\n"
                                 R"({"video": "../a.mp4", "prompt": "x"})"
                                 "\n"
                                 R"({"video": "/a.mp4", "prompt": "x"})"
                                 "\n"
                                 R"({"video": "./a.mp4", "prompt": "x"})"
                                 "\n[1]\n");
    EXPECT_THAT(
        faults_of(data),
        testing::UnorderedElementsAre(
            AllOf(HasSubstr("metadata.jsonl line 1 (row 0)"), HasSubstr("prompt: must be text")),
            HasSubstr("metadata.jsonl line 2 (row 1)"),
            AllOf(HasSubstr("line 3 (row 2)"), HasSubstr("\"interaction\""),
                  HasSubstr("did you mean \"interactions\"?")),
            AllOf(HasSubstr("line 3 (row 2)"), HasSubstr("video: missing")),
            AllOf(HasSubstr("line 4 (row 3)"), HasSubstr("../a.mp4"), HasSubstr("without \"..\"")),
            AllOf(HasSubstr("line 5 (row 4)"), HasSubstr("\"/a.mp4\"")),
            AllOf(HasSubstr("line 6 (row 5)"), HasSubstr("names videos/a.mp4 again"),
                  HasSubstr("line 1 (row 0)")),
            AllOf(HasSubstr("line 7 (row 6)"), HasSubstr("must be an object"))));
}

TEST(Manifest, ReportsEveryFaultOfInteractions) {
    const Dataset data;
    data.write("metadata.json", R"([{"video": "a.mp4", "prompt": "x", "interactions": [
        {"subject": {"phrase": "x", "id": 6}, "verb": {"phrase": "x", "id": 1}, "objekt": null},
        {"subject": {"phrse": "x", "id": true, "start": -1}},
        7
    ]}, {"video": "b.mp4", "prompt": "x", "interactions": {}}])");
    EXPECT_THAT(
        faults_of(data),
        testing::UnorderedElementsAre(
            HasSubstr("row 0: interactions[0].subject.id: 6 is not an ID of 1..5"),
            HasSubstr("interactions[0].verb.id: unknown key"),
            HasSubstr("interactions[0].objekt: unknown key; did you mean \"object\"?"),
            HasSubstr("interactions[1].subject.phrse: unknown key; did you mean \"phrase\"?"),
            HasSubstr("interactions[1].subject.phrase: must be words"),
            HasSubstr("interactions[1].subject.id: true is not an ID"),
            HasSubstr("interactions[1].subject.start: must be an offset"),
            HasSubstr("interactions[1].verb: missing"),
            HasSubstr("interactions[2]: must be an object"),
            HasSubstr("row 1: interactions: must be a list")));
}

TEST(Manifest, ReportsFaultsOfCsv) {
    const Dataset data;
    data.write("metadata.csv", "video,prompt,interactions\na.mp4,x\nb.mp4,x,[{]\n");
    EXPECT_THAT(
        faults_of(data),
        ElementsAre(AllOf(HasSubstr("metadata.csv line 2 (row 0)"), HasSubstr("has 2 cells")),
                    AllOf(HasSubstr("metadata.csv line 3 (row 1): interactions"))));
    data.write("metadata.csv", "file,prompt\na.mp4,x\n");
    expect_error([&] { (void)read_manifest(data.root()); },
                 {"metadata.csv", "one column \"video\""});
    data.write("metadata.csv", "video,prompt\na.mp4,caf\xE9\n");
    expect_error([&] { (void)read_manifest(data.root()); }, {"metadata.csv", "not UTF-8"});
}

TEST(Manifest, NeedsExactlyOneFileWithRows) {
    const Dataset data;
    expect_error([&] { (void)read_manifest(data.root()); },
                 {data.root().string(), "no metadata.jsonl, metadata.json or metadata.csv"});
    data.write("metadata.json", "[]");
    expect_error([&] { (void)read_manifest(data.root()); }, {"metadata.json", "has no rows"});
    data.write("metadata.json", "{}");
    expect_error([&] { (void)read_manifest(data.root()); }, {"must be a list of rows"});
    data.write("metadata.csv", "video,prompt\n");
    expect_error([&] { (void)read_manifest(data.root()); },
                 {"metadata.json", "metadata.csv", "keep one"});
}

}  // namespace
}  // namespace matrix::data_source
