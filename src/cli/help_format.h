#pragma once

#include <memory>

namespace CLI {
class FormatterBase;
}

namespace matrix::cli {

/// Help text that keeps to the terminal's width (80 columns where there is none): descriptions
/// wrap, below the names where it is narrow, and examples go on with a backslash.
[[nodiscard]] std::shared_ptr<CLI::FormatterBase> help_formatter();

}  // namespace matrix::cli
