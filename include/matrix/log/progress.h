#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace matrix::log {

/// A bar on stderr that redraws in place, never wider than the terminal, or a plain line every five
/// seconds where stderr is no terminal. Log lines may come in between. Silent from Level::kWarning
/// on and on other ranks than 0.
class Progress {
public:
    /// `total` 0: not known. `done` is what was there before, which the rate does not count.
    Progress(std::string label, std::int64_t total, std::int64_t done = 0);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// `detail` is a short text such as "loss 0.93".
    void update(std::int64_t done, const std::string& detail = "");
    /// Ends the line; called by the destructor too.
    void finish();

private:
    void draw() const;

    std::string label_;
    std::int64_t total_;
    std::int64_t start_;
    std::int64_t done_;
    std::string detail_;
    bool terminal_;
    bool finished_ = false;
    std::chrono::steady_clock::time_point began_;
    std::chrono::steady_clock::time_point drawn_;
};

}  // namespace matrix::log
