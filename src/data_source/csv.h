#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace matrix::data_source {

struct CsvRecord {
    std::int64_t line = 0;  ///< of its first character, from 1
    std::vector<std::string> cells;
};

/// RFC 4180: quoted cells may hold commas, line breaks and doubled quotes; lines end in LF or CRLF;
/// a byte-order mark and empty lines are skipped. Faults ("line 3: ...") are appended; a faulty
/// record is left out.
[[nodiscard]] std::vector<CsvRecord> parse_csv(std::string_view text,
                                               std::vector<std::string>& faults);

}  // namespace matrix::data_source
