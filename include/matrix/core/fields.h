#pragma once

#include <nlohmann/json_fwd.hpp>

#include <concepts>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

// The field table: one declaration per config field drives reading, writing, unknown-key rejection,
// ranges, the JSON Schema and the reference page. A component declares its struct and, beside it,
//
//     FieldTable fields(LoraConfig& c) {
//         FieldTable t;
//         t.add("rank", c.rank, "Rank r of every low-rank delta.").range(1, 4096);
//         return t;
//     }

namespace matrix {

class FieldTable;

/// Where a field's value lives. optional<> is written as null (or as `null_word`) when empty.
using FieldTarget =
    std::variant<bool*, std::int64_t*, double*, std::string*, std::optional<std::int64_t>*,
                 std::optional<double>*, std::optional<std::string>*, std::vector<std::int64_t>*,
                 std::vector<double>*, std::vector<std::string>*>;

class Field {
public:
    Field(std::string name, FieldTarget target, std::string doc);

    /// Closed range; for lists, of every element.
    Field& range(double minimum, double maximum = std::numeric_limits<double>::infinity());
    /// Like `range`, but the minimum itself is not allowed.
    Field& above(double minimum, double maximum = std::numeric_limits<double>::infinity());
    Field& one_of(std::vector<std::string> words);
    /// Exact number of elements of a list.
    Field& length(std::size_t count);
    /// The JSON string that stands for an empty optional instead of null, e.g. "auto".
    Field& null_word(std::string word);

private:
    friend class FieldTable;
    /// Faults start with `path`, the field's own dotted path.
    void read(const nlohmann::json& json, std::vector<std::string>& faults,
              const std::string& path) const;
    [[nodiscard]] nlohmann::json write() const;
    [[nodiscard]] nlohmann::json schema() const;
    /// "integer, 1..4096"
    [[nodiscard]] std::string type_text() const;
    [[nodiscard]] bool holds_text() const;

    template <typename T>
    void read_into(T& target, const nlohmann::json& json, std::vector<std::string>& faults,
                   const std::string& path) const;
    template <typename T>
    void read_into(std::optional<T>& target, const nlohmann::json& json,
                   std::vector<std::string>& faults, const std::string& path) const;
    template <typename T>
    void read_into(std::vector<T>& target, const nlohmann::json& json,
                   std::vector<std::string>& faults, const std::string& path) const;
    /// The fault of a value of the right type, or nothing.
    [[nodiscard]] std::optional<std::string> refuse(const nlohmann::json& value) const;
    [[nodiscard]] std::string range_text() const;

    std::string name_;
    FieldTarget target_;
    std::string doc_;
    double minimum_ = -std::numeric_limits<double>::infinity();
    double maximum_ = std::numeric_limits<double>::infinity();
    bool minimum_excluded_ = false;
    std::vector<std::string> words_;
    std::optional<std::size_t> length_;
    std::string null_word_;
};

class FieldTable {
public:
    FieldTable();
    FieldTable(FieldTable&&) noexcept;
    FieldTable& operator=(FieldTable&&) noexcept;
    ~FieldTable();

    /// `target` must outlive the table. The returned reference is valid until the next `add`.
    Field& add(std::string name, FieldTarget target, std::string doc);
    template <typename T>
    requires std::constructible_from<FieldTarget, T*> Field& add(std::string name, T& target,
                                                                 std::string doc) {
        return add(std::move(name), FieldTarget(&target), std::move(doc));
    }
    /// A nested object.
    void add_section(std::string name, FieldTable table, std::string doc);
    /// A nested object that may be null: `present` is set by reading and consulted by writing.
    void add_optional_section(std::string name, FieldTable table, bool& present, std::string doc);

    /// Reads `json` into the targets. Every fault (unknown key with the nearest known one, wrong
    /// type, out of range) is appended to `faults` as one line that starts with the dotted path; a
    /// faulty field keeps its value.
    void read(const nlohmann::json& json, std::vector<std::string>& faults,
              const std::string& path = "") const;
    /// Sets one field by its dotted path from JSON text or a bare string ("alignment.sga.rows=t2v",
    /// "x=null").
    void set(std::string_view assignment, std::vector<std::string>& faults) const;
    /// The current values.
    [[nodiscard]] nlohmann::json write() const;
    /// A JSON Schema (draft 2020-12) with the current values as defaults.
    [[nodiscard]] nlohmann::json schema() const;
    /// Markdown: one table row per field (dotted path, type and range, default, meaning).
    [[nodiscard]] std::string reference() const;

private:
    struct Section;
    [[nodiscard]] std::vector<std::string> names() const;
    [[nodiscard]] const Field* field(std::string_view name) const;
    [[nodiscard]] const Section* section(std::string_view name) const;
    void write_reference(std::string& text, const std::string& path) const;

    std::vector<Field> fields_;
    std::vector<std::unique_ptr<Section>> sections_;
};

/// The word of `candidates` nearest to `word` by edit distance, if near enough to suggest.
[[nodiscard]] std::optional<std::string> did_you_mean(std::string_view word,
                                                      const std::vector<std::string>& candidates);

/// Parses JSON text: RunError naming `where`, line and column for malformed text, duplicate keys or
/// nesting deeper than 64.
[[nodiscard]] nlohmann::json parse_json(std::string_view text, std::string_view where);

}  // namespace matrix
