#include "tensor_io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "matrix/core/error.h"
#include "matrix/core/shape.h"

namespace matrix::tensor_io {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxDims = 64;

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 15> kDtypes{{
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U64", at::kUInt64},
    {"U32", at::kUInt32},
    {"U16", at::kUInt16},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
}};

/// Builds the entries while the text is read and stops at the first thing that does not belong: a
/// document tree of a hostile header would be many times as large as the header.
class HeaderReader final : public nlohmann::json_sax<json> {
public:
    explicit HeaderReader(const std::string& where) : where_(where) {}

    Header take() { return std::move(header_); }

    bool start_object(std::size_t) override {
        switch (place_) {
            case Place::kStart:
                place_ = Place::kTop;
                return true;
            case Place::kTop:
                if (name_ == "__metadata__") {
                    place_ = Place::kMetadata;
                } else {
                    place_ = Place::kEntry;
                    seen_ = {};
                }
                return true;
            default:
                fail("an object");
        }
    }

    bool key(string_t& text) override {
        if (place_ == Place::kTop) {
            name_ = text;
            const bool repeated = text == "__metadata__" ? std::exchange(has_metadata_, true)
                                                         : header_.entries.contains(text);
            if (repeated) {
                throw RunError(where_ + ": the header names " + quote_name(text) + " twice");
            }
        } else if (place_ == Place::kMetadata) {
            field_ = text;
            if (header_.metadata.contains(text)) {
                throw RunError(where_ + ": the header's __metadata__ names " + quote_name(text) +
                               " twice");
            }
        } else {
            field_ = text;
            const auto known = std::find(kFields.begin(), kFields.end(), text);
            if (known == kFields.end()) {
                fault("unknown field " + quote_name(text));
            }
            if (std::exchange(seen_[static_cast<std::size_t>(known - kFields.begin())], true)) {
                fault("the field " + quote_name(text) + " stands twice");
            }
        }
        return true;
    }

    bool end_object() override {
        if (place_ == Place::kEntry) {
            for (std::size_t i = 0; i < kFields.size(); ++i) {
                if (!seen_[i]) {
                    fault("no field \"" + std::string(kFields[i]) + "\"");
                }
            }
            if (numbers_[1].size() != 2) {
                fault("data_offsets has " + std::to_string(numbers_[1].size()) + " numbers, not 2");
            }
            entry_.shape.assign(numbers_[0].begin(), numbers_[0].end());
            entry_.begin = numbers_[1][0];
            entry_.end = numbers_[1][1];
            header_.entries.emplace(name_, std::exchange(entry_, {}));
            numbers_ = {};
        }
        place_ = place_ == Place::kTop ? Place::kStart : Place::kTop;
        return true;
    }

    bool start_array(std::size_t) override {
        if (place_ != Place::kEntry || field_ == "dtype") {
            fail("a list");
        }
        place_ = Place::kNumbers;
        return true;
    }

    bool end_array() override {
        place_ = Place::kEntry;
        return true;
    }

    bool number_unsigned(number_unsigned_t number) override {
        if (place_ != Place::kNumbers) {
            fail("a number");
        }
        auto& numbers = numbers_[field_ == "shape" ? 0 : 1];
        if (number > std::uint64_t{INT64_MAX}) {
            fault(field_ + " holds " + std::to_string(number) + ", which is too large");
        }
        if (numbers.size() == kMaxDims) {
            fault(field_ + " has more than " + std::to_string(kMaxDims) + " numbers");
        }
        numbers.push_back(number);
        return true;
    }

    bool string(string_t& text) override {
        if (place_ == Place::kMetadata) {
            header_.metadata.emplace(field_, text);
            return true;
        }
        if (place_ != Place::kEntry || field_ != "dtype") {
            fail("a string");
        }
        const auto dtype = dtype_of_name(text);
        if (!dtype) {
            fault("dtype " + quote_name(text) + " is not supported");
        }
        entry_.dtype = *dtype;
        return true;
    }

    bool null() override { fail("null"); }
    bool boolean(bool) override { fail("true or false"); }
    bool number_integer(number_integer_t) override { fail("a negative number"); }
    bool number_float(number_float_t, const string_t&) override { fail("a fraction"); }
    bool binary(binary_t&) override { fail("bytes"); }

    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception&) override {
        throw RunError(where_ + ": the header is not well-formed JSON (byte " +
                       std::to_string(position) + ")");
    }

private:
    enum class Place { kStart, kTop, kMetadata, kEntry, kNumbers };
    static constexpr std::array<std::string_view, 3> kFields{"dtype", "shape", "data_offsets"};

    [[noreturn]] void fault(const std::string& what) const {
        throw RunError(where_ + ": tensor " + quote_name(name_) + ": " + what);
    }

    /// Something of the wrong kind, at whatever place the reader is.
    [[noreturn]] void fail(const std::string& got) const {
        switch (place_) {
            case Place::kStart:
                throw RunError(where_ + ": the header is " + got + ", expected an object");
            case Place::kTop:
                fault("described by " + got + ", expected an object");
            case Place::kMetadata:
                throw RunError(where_ + ": the header's __metadata__ " + quote_name(field_) +
                               " is " + got + ", expected a string");
            case Place::kEntry:
                fault(field_ + " is " + got + ", expected " +
                      (field_ == "dtype" ? "a string" : "a list of numbers"));
            case Place::kNumbers:
                break;
        }
        fault(field_ + " holds " + got + ", expected whole numbers from 0");
    }

    const std::string& where_;
    Header header_;
    Place place_ = Place::kStart;
    std::string name_;
    std::string field_;
    bool has_metadata_ = false;
    std::array<bool, 3> seen_{};
    Entry entry_;
    std::array<std::vector<std::uint64_t>, 2> numbers_;  ///< shape, data_offsets
};

// Dimensions of 0 count as 1: strides are products too, and must not overflow either.
bool fits(const Entry& entry, std::uint64_t& bytes) {
    std::int64_t product = static_cast<std::int64_t>(c10::elementSize(entry.dtype));
    bool empty = false;
    for (const std::int64_t size : entry.shape) {
        empty = empty || size == 0;
        if (__builtin_mul_overflow(product, std::max<std::int64_t>(size, 1), &product)) {
            return false;
        }
    }
    bytes = empty ? 0 : static_cast<std::uint64_t>(product);
    return true;
}

void check_spans(const Header& header, std::uint64_t data_bytes, const std::string& where) {
    std::vector<const std::pair<const std::string, Entry>*> order;
    order.reserve(header.entries.size());
    for (const auto& item : header.entries) {
        const Entry& entry = item.second;
        const std::string name = where + ": tensor " + quote_name(item.first) + ": ";
        std::uint64_t bytes = 0;
        if (!fits(entry, bytes)) {
            throw RunError(name + "shape " + shape_text(entry.shape) + " is too large");
        }
        if (entry.begin > entry.end || entry.end > data_bytes) {
            throw RunError(name + "data_offsets [" + std::to_string(entry.begin) + ", " +
                           std::to_string(entry.end) + "] do not lie in the file's " +
                           std::to_string(data_bytes) + " bytes of data (is it truncated?)");
        }
        if (entry.end - entry.begin != bytes) {
            throw RunError(name + "shape " + shape_text(entry.shape) + " of " +
                           std::string(dtype_name(entry.dtype)) + " takes " +
                           std::to_string(bytes) + " bytes, its data_offsets hold " +
                           std::to_string(entry.end - entry.begin));
        }
        order.push_back(&item);
    }
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
        return std::pair(a->second.begin, a->second.end) <
               std::pair(b->second.begin, b->second.end);
    });
    std::uint64_t position = 0;
    for (const auto* item : order) {
        if (item->second.begin != position) {
            throw RunError(where + ": tensor " + quote_name(item->first) + ": its data begins at " +
                           std::to_string(item->second.begin) + ", where the one before ends at " +
                           std::to_string(position));
        }
        position = item->second.end;
    }
    if (position != data_bytes) {
        throw RunError(where + ": " + std::to_string(data_bytes - position) +
                       " bytes after the last tensor belong to none");
    }
}

}  // namespace

Header parse_header(std::string_view text, std::uint64_t data_bytes, const std::string& where) {
    // nlohmann would take a NUL for the end of the text.
    if (text.find('\0') != std::string_view::npos) {
        throw RunError(where + ": the header is not well-formed JSON (it holds NUL bytes)");
    }
    HeaderReader reader(where);
    json::sax_parse(text.begin(), text.end(), &reader);
    Header header = reader.take();
    check_spans(header, data_bytes, where);
    return header;
}

std::string_view dtype_name(at::ScalarType dtype) {
    for (const auto& [name, known] : kDtypes) {
        if (known == dtype) {
            return name;
        }
    }
    return {};
}

std::optional<at::ScalarType> dtype_of_name(std::string_view name) {
    for (const auto& [known, dtype] : kDtypes) {
        if (known == name) {
            return dtype;
        }
    }
    return std::nullopt;
}

std::string quote_name(std::string_view name) {
    constexpr std::size_t kMaxQuoted = 200;
    std::string text =
        json(name.substr(0, kMaxQuoted)).dump(-1, ' ', false, json::error_handler_t::replace);
    return name.size() > kMaxQuoted ? text + "..." : text;
}

}  // namespace matrix::tensor_io
