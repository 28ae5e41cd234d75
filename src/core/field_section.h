#pragma once

#include <string>

#include "matrix/core/fields.h"

namespace matrix {

struct FieldTable::Section {
    std::string name;
    FieldTable table;
    std::string doc;
    bool* present = nullptr;  ///< null: the section cannot be absent
};

}  // namespace matrix
