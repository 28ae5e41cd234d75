#pragma once

#include <gtest/gtest.h>

#include <exception>
#include <initializer_list>
#include <string>
#include <string_view>

#include "matrix/core/error.h"

namespace matrix::test {

/// Runs `run`, expects an `Expected` whose what() holds every one of `parts`, and returns what().
template <typename Expected = RunError, typename Function>
std::string expect_error(Function&& run, std::initializer_list<std::string_view> parts = {}) {
    try {
        run();
    } catch (const Expected& error) {
        const std::string message = error.what();
        for (const std::string_view part : parts) {
            EXPECT_NE(message.find(part), std::string::npos)
                << "no \"" << part << "\" in: " << message;
        }
        return message;
    } catch (const std::exception& error) {
        ADD_FAILURE() << "an error of another type: " << error.what();
        return error.what();
    }
    ADD_FAILURE() << "no error was thrown";
    return {};
}

}  // namespace matrix::test
