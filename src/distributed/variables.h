#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "matrix/distributed/environment.h"

namespace matrix::distributed {

/// The environment's variables, with faults that name them.
class Variables {
public:
    explicit Variables(const Lookup& lookup) : lookup_(lookup) {}

    [[nodiscard]] std::optional<std::string> find(const std::string& name) const {
        return lookup_(name);
    }
    [[nodiscard]] bool has(const std::string& name) const { return find(name).has_value(); }
    /// UsageError: "NAME is not set, but ... (launcher)".
    [[nodiscard]] std::string text(const std::string& name, const std::string& launcher) const;
    /// A whole number in [low, high].
    [[nodiscard]] std::int64_t number(const std::string& name, const std::string& launcher,
                                      std::int64_t low, std::int64_t high) const;

private:
    const Lookup& lookup_;
};

/// A whole number in [low, high], else UsageError that names `name` and shows `text`.
std::int64_t parse_number(const std::string& name, const std::string& text, std::int64_t low,
                          std::int64_t high);

constexpr int kMaxRanks = 1 << 20;

/// A job's own port, below those that Linux hands out by itself (32768 and above).
[[nodiscard]] constexpr std::uint16_t port_of_job(std::uint64_t job) {
    return static_cast<std::uint16_t>(10000 + job % 20000);
}

}  // namespace matrix::distributed
