#include "matrix/core/directory_lock.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "matrix/core/error.h"

namespace matrix {
namespace {

namespace fs = std::filesystem;

class DirectoryLockTest : public testing::Test {
protected:
    DirectoryLockTest() { fs::remove_all(directory_); }
    ~DirectoryLockTest() override { fs::remove_all(directory_); }

    const fs::path directory_ =
        fs::path(testing::TempDir()) / ("lock-" + std::to_string(::getpid())) / "run";
};

TEST_F(DirectoryLockTest, OneHolderAtATime) {
    {
        const DirectoryLock first(directory_, "a run");
        try {
            const DirectoryLock second(directory_, "a run");
            FAIL() << "two holders";
        } catch (const RunError& error) {
            EXPECT_NE(std::string(error.what()).find(directory_.string()), std::string::npos);
            EXPECT_NE(std::string(error.what()).find("another process has a run"),
                      std::string::npos);
        }
    }
    const DirectoryLock after(directory_, "a run");
}

TEST_F(DirectoryLockTest, WhatIsNoDirectoryIsNamed) {
    EXPECT_THROW(DirectoryLock("/proc/none/run", "a run"), RunError);
}

}  // namespace
}  // namespace matrix
