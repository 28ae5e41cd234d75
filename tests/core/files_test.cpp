#include "matrix/core/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempDirectory;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Files, WritesReadsAndReplaces) {
    const TempDirectory dir;
    const fs::path path = dir / "a/b/file.txt";
    write_file_atomically(path, "first");
    EXPECT_EQ(read_text_file(path), "first");
    write_file_atomically(path, "");
    EXPECT_EQ(read_text_file(path), "");
    const std::string large(300'000, 'x');
    write_file_atomically(path, large);
    EXPECT_EQ(read_text_file(path), large);
    EXPECT_EQ(std::distance(fs::directory_iterator(dir / "a/b"), fs::directory_iterator()), 1);
}

TEST(Files, HonoursTheUmask) {
    const TempDirectory dir;
    const mode_t before = ::umask(027);
    write_file_atomically(dir / "file", "x");
    ::umask(before);
    EXPECT_EQ(fs::status(dir / "file").permissions(), fs::perms(0640));
}

TEST(Files, ReadFailuresNameThePath) {
    const TempDirectory dir;
    const std::string path = (dir / "file").string();
    expect_error([&] { (void)read_text_file(path); }, {path, "No such file or directory"});
    expect_error([&] { (void)read_text_file(dir.path()); },
                 {dir.path().string(), "Is a directory"});
    write_file_atomically(path, "12345");
    EXPECT_EQ(read_text_file(path, 5), "12345");
    expect_error([&] { (void)read_text_file(path, 4); }, {path, "larger than 4 bytes"});
}

TEST(Files, PipesAndDevicesAreNeitherReadNorReplaced) {
    const TempDirectory dir;
    const fs::path pipe = dir / "pipe";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    expect_error([&] { (void)read_text_file(pipe); }, {pipe.string(), "not a regular file"});
    expect_error([&] { write_file_atomically(pipe, "x"); }, {pipe.string(), "not a regular file"});
    EXPECT_TRUE(fs::is_fifo(pipe));
    EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1);
}

TEST(Files, AFailedWriteLeavesTheOldFileAlone) {
    const TempDirectory dir;
    const fs::path path = dir / "file";
    write_file_atomically(path, "old");
    EXPECT_THROW(write_file_atomically(path,
                                       [&](int descriptor) {
                                           write_all(descriptor, "new", 3, path);
                                           throw std::logic_error("stop");
                                       }),
                 std::logic_error);
    EXPECT_EQ(read_text_file(path), "old");
    EXPECT_THAT(dir.names(), ElementsAre("file"));
}

TEST(Files, WriteFailuresNameThePath) {
    const TempDirectory dir;
    write_file_atomically(dir / "file", "x");
    expect_error([&] { write_file_atomically(dir / "file/below", "y"); },
                 {(dir / "file").string(), "cannot create the directory"});
    fs::create_directory(dir / "full");
    expect_error([&] { write_file_atomically(dir / "full", "y"); },
                 {(dir / "full").string(), "cannot replace", "Is a directory"});
    EXPECT_THAT(dir.names(), ElementsAre("file", "full"));
    expect_error([&] { write_all(-1, "x", 1, "name"); },
                 {"name: cannot write: Bad file descriptor"});
}

// Runs in a child of its own, since the limit holds for the whole process. The exit code says what
// happened.
int write_past_the_limit(const fs::path& path) {
    const pid_t child = ::fork();
    if (child == 0) {
        const rlimit limit{1000, 1000};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        try {
            write_file_atomically(path, std::string(5000, 'x'));
        } catch (const RunError& error) {
            const std::string what = error.what();
            const bool named = what.find(path.string()) != std::string::npos &&
                               what.find("File too large") != std::string::npos;
            ::_exit(named ? 42 : 2);
        }
        ::_exit(1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(Files, ADiskThatIsFullLeavesNothing) {
    const TempDirectory dir;
    EXPECT_EQ(write_past_the_limit(dir / "new"), 42);
    EXPECT_THAT(dir.names(), IsEmpty());
    write_file_atomically(dir / "old", "old");
    EXPECT_EQ(write_past_the_limit(dir / "old"), 42);
    EXPECT_EQ(read_text_file(dir / "old"), "old");
    EXPECT_THAT(dir.names(), ElementsAre("old"));
}

TEST(Directories, AreFilledAndReplacedAsAWhole) {
    const TempDirectory dir;
    const fs::path path = dir / "step-10";
    const auto fill = [](const std::string& name) {
        return [name](const fs::path& temporary) { std::ofstream(temporary / name) << name; };
    };
    write_directory_atomically(path, fill("a"));
    EXPECT_EQ(read_text_file(path / "a"), "a");
    write_directory_atomically(path / "", fill("b"));
    EXPECT_FALSE(fs::exists(path / "a"));
    EXPECT_EQ(read_text_file(path / "b"), "b");
    EXPECT_THAT(dir.names(), ElementsAre("step-10"));
}

TEST(Directories, StayAsTheyWereWhenFillingFails) {
    const TempDirectory dir;
    const fs::path path = dir / "step-10";
    write_directory_atomically(
        path, [](const fs::path& temporary) { write_file_atomically(temporary / "a", "a"); });
    EXPECT_THROW(write_directory_atomically(path,
                                            [](const fs::path& temporary) {
                                                write_file_atomically(temporary / "b", "b");
                                                throw std::logic_error("stop");
                                            }),
                 std::logic_error);
    EXPECT_EQ(read_text_file(path / "a"), "a");
    EXPECT_FALSE(fs::exists(path / "b"));
    EXPECT_THAT(dir.names(), ElementsAre("step-10"));
}

TEST(Directories, DoNotReplaceAFile) {
    const TempDirectory dir;
    write_file_atomically(dir / "file", "x");
    expect_error([&] { write_directory_atomically(dir / "file", [](const fs::path&) {}); },
                 {(dir / "file").string(), "Not a directory"});
    EXPECT_EQ(read_text_file(dir / "file"), "x");
    EXPECT_THAT(dir.names(), ElementsAre("file"));
}

TEST(Hash, IsXxh3Of128Bits) {
    // The value of XXH3_128bits for no input, as the xxHash project publishes it.
    EXPECT_EQ(hash_text(""), "99aa06d3014798d86001c324468d497f");
    EXPECT_NE(hash_text("a"), hash_text("b"));
    const TempDirectory dir;
    const std::string text(3'000'001, 'q');  // several blocks of reading
    write_file_atomically(dir / "file", text);
    EXPECT_EQ(hash_file(dir / "file"), hash_text(text));
    expect_error([&] { (void)hash_file(dir / "none"); }, {"none: cannot open"});
}

}  // namespace
}  // namespace matrix
