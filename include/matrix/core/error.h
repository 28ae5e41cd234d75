#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace matrix {

/// What a user can cause. The message says what is wrong, where, and what would be right; `main` is
/// the only catcher and turns `exit_code()` into the program's status. Mistakes that only a
/// programmer can make are TORCH_CHECKs.
class Error : public std::runtime_error {
public:
    /// One line per fault; `what()` is all of them.
    [[nodiscard]] const std::vector<std::string>& faults() const noexcept { return faults_; }
    [[nodiscard]] int exit_code() const noexcept { return exit_code_; }

protected:
    Error(std::vector<std::string> faults, int exit_code)
        : std::runtime_error(joined(faults)), faults_(std::move(faults)), exit_code_(exit_code) {}

private:
    static std::string joined(const std::vector<std::string>& faults) {
        std::string text;
        for (const std::string& fault : faults) {
            text += (text.empty() ? "" : "\n") + fault;
        }
        return text;
    }

    std::vector<std::string> faults_;
    int exit_code_;
};

/// A file, tensor or device that is not as it should be, found at run time: exit 1. Several faults
/// of one search (a checkpoint's keys, a data set's clips) travel together.
class RunError : public Error {
public:
    explicit RunError(const std::string& message) : Error({message}, 1) {}
    explicit RunError(std::vector<std::string> faults) : Error(std::move(faults), 1) {}
};

/// A wrong command line or configuration: exit 2.
class UsageError : public Error {
public:
    explicit UsageError(const std::string& message) : Error({message}, 2) {}
    explicit UsageError(std::vector<std::string> faults) : Error(std::move(faults), 2) {}
};

}  // namespace matrix
