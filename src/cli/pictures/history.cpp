#include "cli/pictures/history.h"

#include <fstream>
#include <limits>

namespace matrix::cli::pictures {

using nlohmann::json;

void History::read(const std::vector<std::filesystem::path>& files) {
    records_.clear();
    for (const std::filesystem::path& path : files) {
        std::ifstream file(path);
        for (std::string line; std::getline(file, line);) {
            json record = json::parse(line, nullptr, /*allow_exceptions=*/false);
            if (!record.is_object() || !record.contains("step")) {
                break;
            }
            records_.push_back(std::move(record));
        }
    }
}

History::Series History::series(const std::string& path) const {
    const json::json_pointer pointer("/" + path);
    Series series;
    for (const json& record : records_) {
        if (record.contains(pointer)) {
            const json& value = record[pointer];
            series.steps.push_back(record["step"].get<double>());
            series.values.push_back(value.is_number() ? value.get<double>()
                                                      : std::numeric_limits<double>::quiet_NaN());
        }
    }
    return series;
}

}  // namespace matrix::cli::pictures
