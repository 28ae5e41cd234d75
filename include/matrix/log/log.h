#pragma once

#include <filesystem>
#include <string>
#include <string_view>

// The facade over spdlog: its headers stay in log.cpp, since they do not compile beside torch's
// copy of fmt.

namespace matrix::log {

enum class Level { kDebug, kInfo, kWarning, kError };

/// Terminal verbosity: lines below `level` are dropped, and progress from kWarning on.
void configure(Level level);

/// This process's place in its run; before open_file(). Only rank 0 writes to the terminal.
void set_rank(int rank);
[[nodiscard]] int rank();

/// Also appends every line of level info and above, with date and rank, to a file (in place of an
/// earlier one). Creates missing directories; std::runtime_error with path and reason if it cannot
/// be opened.
void open_file(const std::filesystem::path& path);

void debug(std::string_view message);
void info(std::string_view message);
/// Warnings and errors go to stderr.
void warning(std::string_view message);
void error(std::string_view message);
/// To the file alone, if there is one: for what the caller prints itself.
void error_to_file(std::string_view message);

}  // namespace matrix::log
