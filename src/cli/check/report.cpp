#include "cli/check/report.h"

#include <iostream>

#include "matrix/core/error.h"
#include "matrix/log/log.h"

namespace matrix::cli::check {

bool Report::collect(const std::function<void()>& step) {
    try {
        step();
        return true;
    } catch (const Error& error) {
        faults.insert(faults.end(), error.faults().begin(), error.faults().end());
        return false;
    }
}

void Report::print(bool json) const {
    if (json) {
        nlohmann::json result = facts;
        result["notes"] = notes;
        result["faults"] = faults;
        // File names need not be UTF-8.
        std::cout << result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
        return;
    }
    for (const std::string& line : lines) {
        log::info(line);
    }
    for (const std::string& note : notes) {
        log::info("note: " + note);
    }
}

}  // namespace matrix::cli::check
