#include "cli/help_format.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdlib>
#include <sstream>

namespace matrix::cli {
namespace {

constexpr std::size_t kNarrow = 70;       ///< below it names and descriptions take turns
constexpr std::size_t kNamesColumn = 26;  ///< where descriptions start beside names

/// COLUMNS, else the terminal's own width, else 80; lines over 100 columns are hard to read.
std::size_t columns() {
    long width = 80;
    winsize size{};
    if (const char* wish = std::getenv("COLUMNS"); wish != nullptr && std::atol(wish) > 0) {
        width = std::atol(wish);
    } else if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        width = size.ws_col;
    }
    return static_cast<std::size_t>(std::clamp(width, 40l, 100l));
}

/// `text` word by word in lines of at most `width`; every line but the first starts with `indent`,
/// every line but the last ends with `joint`. `used` columns of the first line are taken.
std::string wrap(const std::string& text, std::size_t used, const std::string& indent,
                 std::size_t width, const std::string& joint = "") {
    std::istringstream words(text);
    std::string result, word;
    std::size_t column = used;
    bool first_of_line = true;
    while (words >> word) {
        if (!first_of_line && column + 1 + word.size() + joint.size() > width) {
            result += joint + "\n" + indent;
            column = indent.size();
            first_of_line = true;
        }
        result += (first_of_line ? "" : " ") + word;
        column += word.size() + (first_of_line ? 0 : 1);
        first_of_line = false;
    }
    return result;
}

class HelpFormatter final : public CLI::Formatter {
public:
    HelpFormatter() : width_(columns()) {}

    std::string make_description(const CLI::App* app) const override {
        return wrap(app->get_description(), 0, "", width_) + "\n";
    }
    std::string make_usage(const CLI::App* app, std::string name) const override {
        return wrap(CLI::Formatter::make_usage(app, std::move(name)), 0, "    ", width_) + "\n";
    }
    std::string make_subcommand(const CLI::App* sub) const override {
        return entry(sub->get_name(), sub->get_description());
    }
    std::string make_option(const CLI::Option* option, bool is_positional) const override {
        std::string name = make_option_name(option, is_positional);
        if (!is_positional && option->get_type_size() != 0 && !option->get_type_name().empty()) {
            name += " " + get_label(option->get_type_name());
        }
        std::string text = option->get_description();
        if (option->get_required()) {
            text += " (required)";
        } else if (!option->get_default_str().empty()) {
            text += " (default " + option->get_default_str() + ")";
        }
        return entry(name, text);
    }
    std::string make_footer(const CLI::App* app) const override {
        std::istringstream lines(app->get_footer());
        std::string result, line;
        while (std::getline(lines, line)) {
            const bool command = line.starts_with("  ");
            result +=
                command ? "  " + wrap(line, 2, "      ", width_, " \\") : wrap(line, 0, "", width_);
            result += '\n';
        }
        return result;
    }

private:
    [[nodiscard]] std::string entry(const std::string& name, const std::string& text) const {
        const std::size_t start = width_ < kNarrow ? 6 : kNamesColumn;
        std::string line = "  " + name;
        // At least two spaces between a name and what it means.
        if (line.size() + 2 > start) {
            line += "\n" + std::string(start, ' ');
        } else {
            line.resize(start, ' ');
        }
        return line + wrap(text, start, std::string(start, ' '), width_) + "\n";
    }

    std::size_t width_;
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> help_formatter() {
    return std::make_shared<HelpFormatter>();
}

}  // namespace matrix::cli
