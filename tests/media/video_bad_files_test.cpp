#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "matrix/media/video.h"
#include "media_fixtures.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix::media {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempDirectory;

/// Both entry points refuse the file, name it, give the reason on one line, and libav prints
/// nothing.
void expect_refused(const fs::path& path, std::string_view reason) {
    ::testing::internal::CaptureStderr();
    const std::string probed =
        expect_error([&] { (void)probe_video(path); }, {path.string(), reason});
    const std::string read = expect_error(
        [&] {
            (void)read_video_frames(path, {0, 1, 2, 3, 4});
        },
        {path.string(), reason});
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
    EXPECT_EQ(probed.find('\n'), std::string::npos) << probed;
    EXPECT_EQ(read.find('\n'), std::string::npos) << read;
}

TEST(VideoBadFiles, MissingEmptyAndDirectory) {
    const TempDirectory directory;
    expect_refused(directory.path() / "none.mp4", "no such video file");
    expect_refused(directory.path(), "is a directory");
    ASSERT_EQ(::mkfifo((directory.path() / "fifo.mp4").c_str(), 0600), 0);
    expect_refused(directory.path() / "fifo.mp4", "is not a file");
    expect_refused(write_bytes(directory.path() / "empty.mp4", ""), "is empty");
}

TEST(VideoBadFiles, NotAVideo) {
    const TempDirectory directory;
    const std::string text(400, 'a');
    // libav would play a .txt file as terminal art.
    expect_refused(write_bytes(directory.path() / "notes.txt", text), "not a video");
    expect_refused(write_bytes(directory.path() / "notes.mp4", text), "not a video");
    expect_refused(write_bytes(directory.path() / "list.m3u8",
                               "#EXTM3U\n#EXTINF:1,\n" + fixture("h264.mp4").string()),
                   "not a video");
    expect_refused(fixture("masks/rgb.png"), "not a video");
    // Not a protocol, but a name with a colon.
    expect_refused("http://127.0.0.1/clip.mp4", "no such video file");
}

TEST(VideoBadFiles, SoundAlone) {
    expect_refused(fixture("sound.m4a"), "no video stream");
    expect_refused(fixture("sound_and_cover.m4a"),
                   "no video stream, only sound and a cover picture");
}

TEST(VideoBadFiles, CutOff) {
    const TempDirectory directory;
    for (const char* name : {"h264.mp4", "vp9_odd.webm", "lost_leading.mkv"}) {
        const std::string bytes = bytes_of(fixture(name));
        for (const std::size_t kept : {bytes.size() / 2, bytes.size() * 9 / 10}) {
            expect_refused(write_bytes(directory.path() / name, bytes.substr(0, kept)), "cut off");
        }
    }
    // Its table of frames stands at the end.
    const std::string bytes = bytes_of(fixture("vfr.mp4"));
    expect_refused(write_bytes(directory.path() / "vfr.mp4", bytes.substr(0, bytes.size() / 2)),
                   "cut off");
}

TEST(VideoBadFiles, NoFrames) {
    const TempDirectory directory;
    // "ftyp" and an empty "moov".
    const std::string bytes(
        "\0\0\0\x10"
        "ftypisom\0\0\0\0"
        "\0\0\0\x08"
        "moov",
        24);
    expect_refused(write_bytes(directory.path() / "hollow.mp4", bytes), "");
}

TEST(VideoBadFiles, EveryCutOfAFileEndsInAnError) {
    const TempDirectory directory;
    const std::string bytes = bytes_of(fixture("h264.mp4"));
    for (std::size_t kept = 0; kept < bytes.size(); kept += 37) {
        const fs::path path = write_bytes(directory.path() / "cut.mp4", bytes.substr(0, kept));
        expect_error([&] { (void)read_video_frames(path, {0, 1, 2, 3, 4}); }, {path.string()});
    }
}

// Whatever the bytes, the answer is a tensor or a RunError: under the sanitizers this looks for
// anything else.
TEST(VideoBadFiles, DamagedBytesAreSurvived) {
    const TempDirectory directory;
    const std::string bytes = bytes_of(fixture("h264.mp4"));
    int refused = 0;
    for (std::size_t at = 0; at < bytes.size(); at += 53) {
        std::string damaged = bytes;
        damaged[at] = static_cast<char>(damaged[at] ^ 0xA5);
        const fs::path path = write_bytes(directory.path() / "damaged.mp4", damaged);
        try {
            (void)probe_video(path);
            (void)read_video_frames(path, {0, 4});
        } catch (const RunError&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace matrix::media
