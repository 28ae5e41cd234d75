#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace matrix {

/// A component's config.json in the Hugging Face layout, read field by field: unknown keys are the
/// reference's business, a value of the wrong type or out of range is a RunError naming file and
/// field. Nothing is allocated from a value before it passed here.
class ModelConfig {
public:
    explicit ModelConfig(const std::filesystem::path& config_json);

    /// RunError unless `_class_name` is absent or one of `names`.
    void expect_class(const std::vector<std::string>& names) const;
    /// RunError if the field is absent.
    void require(std::string_view name) const;

    /// Absent fields give the default; null too where the reference has an optional (the
    /// `optional_` readers).
    [[nodiscard]] std::int64_t integer(std::string_view name, std::int64_t fallback,
                                       std::int64_t minimum, std::int64_t maximum) const;
    [[nodiscard]] std::optional<std::int64_t> optional_integer(std::string_view name,
                                                               std::int64_t minimum,
                                                               std::int64_t maximum) const;
    [[nodiscard]] double number(std::string_view name, double fallback, double minimum,
                                double maximum) const;
    [[nodiscard]] bool flag(std::string_view name, bool fallback) const;
    [[nodiscard]] std::string text(std::string_view name, std::string_view fallback) const;
    [[nodiscard]] std::vector<std::int64_t> integers(std::string_view name,
                                                     std::vector<std::int64_t> fallback,
                                                     std::int64_t minimum, std::int64_t maximum,
                                                     std::size_t max_count) const;
    /// RunError unless the field is absent or `wanted`: values of the reference that this program
    /// does not have.
    void only(std::string_view name, const nlohmann::json& wanted) const;

    /// RunError about `name` in this file.
    [[noreturn]] void fail(std::string_view name, const std::string& reason) const;

private:
    [[nodiscard]] const nlohmann::json* find(std::string_view name) const;

    std::filesystem::path path_;
    nlohmann::json json_;
};

}  // namespace matrix
