#include "lora/dialect.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <iterator>
#include <string_view>

#include "lora/names.h"
#include "matrix/core/error.h"

namespace matrix::lora {
namespace {

constexpr std::string_view kBlocks = "transformer_blocks.";
constexpr std::string_view kCoreBlocks = "blocks.";

/// A linear in the names of diffusers and of ComfyUI's own port of the model.
struct Module {
    std::string_view linear;
    std::string_view core;
};

constexpr std::array<Module, 8> kInBlock = {{
    {"attn1.to_q", "q"},
    {"attn1.to_k", "k"},
    {"attn1.to_v", "v"},
    {"attn1.to_out.0", "attn_out"},
    {"ff.net.0.proj", "ff_proj"},
    {"ff.net.2", "ff_out"},
    {"norm1.linear", "norm1.linear"},
    {"norm2.linear", "norm2.linear"},
}};
constexpr std::array<Module, 8> kOutside = {{
    {kProjection, kProjection},
    {"patch_embed.text_proj", "patch_embed.text_proj"},
    {"time_embedding.linear_1", "time_embedding_linear_1"},
    {"time_embedding.linear_2", "time_embedding_linear_2"},
    {"ofs_embedding.linear_1", "ofs_embedding_linear_1"},
    {"ofs_embedding.linear_2", "ofs_embedding_linear_2"},
    {"norm_out.linear", "norm_out.linear"},
    {"proj_out", "proj_out"},
}};

struct Ending {
    Role role;
    std::string_view text;
};

struct Grammar {
    Dialect dialect;
    const char* name;
    std::string_view prefix;
    std::array<Ending, 5> endings;  ///< those that the dialect has not are empty
};

constexpr std::array<Grammar, 7> kGrammars = {{
    {Dialect::kDiffusers,
     "diffusers",
     "transformer.",
     {{{Role::kA, ".lora_A.weight"}, {Role::kB, ".lora_B.weight"}}}},
    {Dialect::kOldDiffusers,
     "old diffusers",
     "transformer.",
     {{{Role::kA, ".lora.down.weight"}, {Role::kB, ".lora.up.weight"}}}},
    {Dialect::kPeft,
     "peft",
     "base_model.model.",
     {{{Role::kA, ".lora_A.weight"},
       {Role::kB, ".lora_B.weight"},
       {Role::kWeight, ".weight"},
       {Role::kBias, ".bias"}}}},
    // Before the one underscore, with which its keys begin too.
    {Dialect::kKohya,
     "kohya (double underscore)",
     "lora_unet__",
     {{{Role::kA, ".lora_down.weight"}, {Role::kB, ".lora_up.weight"}, {Role::kAlpha, ".alpha"}}}},
    {Dialect::kMusubi,
     "kohya (single underscore)",
     "lora_unet_",
     {{{Role::kA, ".lora_down.weight"}, {Role::kB, ".lora_up.weight"}, {Role::kAlpha, ".alpha"}}}},
    {Dialect::kComfyui,
     "ComfyUI",
     "diffusion_model.",
     {{{Role::kA, ".lora_A.weight"},
       {Role::kB, ".lora_B.weight"},
       {Role::kAlpha, ".alpha"},
       {Role::kBias, ".bias.set_weight"},
       {Role::kWeight, ".set_weight"}}}},
    {Dialect::kComfyuiDown,
     "ComfyUI (lora_down)",
     "diffusion_model.",
     {{{Role::kA, ".lora_down.weight"}, {Role::kB, ".lora_up.weight"}}}},
}};

const Grammar& grammar_of(Dialect dialect) {
    return *std::find_if(kGrammars.begin(), kGrammars.end(),
                         [&](const Grammar& grammar) { return grammar.dialect == dialect; });
}

bool flattened(Dialect dialect) {
    return dialect == Dialect::kKohya || dialect == Dialect::kMusubi;
}

bool of_core(Dialect dialect) {
    return dialect == Dialect::kComfyui || dialect == Dialect::kComfyuiDown;
}

std::string with_underscores(std::string_view name) {
    std::string text(name);
    std::replace(text.begin(), text.end(), '.', '_');
    return text;
}

/// Takes "<prefix><number><separator>" off the front of `name`, for a number as a model counts.
std::optional<std::string> take_block(std::string_view& name, std::string_view prefix,
                                      char separator) {
    if (!name.starts_with(prefix)) {
        return std::nullopt;
    }
    const std::string_view rest = name.substr(prefix.size());
    std::size_t digits = 0;
    while (digits < rest.size() && std::isdigit(static_cast<unsigned char>(rest[digits])) != 0) {
        ++digits;
    }
    const bool leading_zero = digits > 1 && rest[0] == '0';
    if (digits == 0 || leading_zero || digits == rest.size() || rest[digits] != separator) {
        return std::nullopt;
    }
    name = rest.substr(digits + 1);
    return std::string(rest.substr(0, digits));
}

/// The linear that a spelled name means; `spelled` writes a module as the dialect does.
template <typename Spelled>
std::optional<std::string> find_linear(std::string_view name, std::string_view blocks,
                                       char separator, Spelled spelled) {
    const auto block = take_block(name, blocks, separator);
    const auto matches = [&](const Module& module) { return spelled(module) == name; };
    if (block) {
        const auto* const found = std::find_if(kInBlock.begin(), kInBlock.end(), matches);
        return found == kInBlock.end() ? std::nullopt
                                       : std::optional(std::string(kBlocks) + *block + "." +
                                                       std::string(found->linear));
    }
    const auto* const found = std::find_if(kOutside.begin(), kOutside.end(), matches);
    return found == kOutside.end() ? std::nullopt : std::optional(std::string(found->linear));
}

std::optional<std::string> linear_of(Dialect dialect, std::string_view name) {
    const auto core = [](const Module& module) { return std::string(module.core); };
    if (of_core(dialect)) {
        return find_linear(name, kCoreBlocks, '.', core);
    }
    if (!flattened(dialect)) {
        return name.empty() ? std::nullopt : std::optional(std::string(name));
    }
    const auto flat = [](const Module& module) { return with_underscores(module.linear); };
    auto linear = find_linear(name, "transformer_blocks_", '_', flat);
    if (!linear && dialect == Dialect::kMusubi) {
        // ComfyUI takes its own modules' names in this spelling as well.
        linear = find_linear(name, "blocks_", '_',
                             [&](const Module& module) { return with_underscores(module.core); });
    }
    return linear;
}

/// A linear's name as the dialect writes it, or nothing.
std::optional<std::string> spelled(Dialect dialect, const std::string& linear) {
    if (!flattened(dialect) && !of_core(dialect)) {
        return linear;
    }
    std::string_view name = linear;
    const auto block = take_block(name, kBlocks, '.');
    const auto matches = [&](const Module& module) { return module.linear == name; };
    const Module* const end = block ? kInBlock.end() : kOutside.end();
    const Module* const found = block ? std::find_if(kInBlock.begin(), kInBlock.end(), matches)
                                      : std::find_if(kOutside.begin(), kOutside.end(), matches);
    if (found == end) {
        return std::nullopt;
    }
    if (flattened(dialect)) {
        return with_underscores(linear);
    }
    return (block ? std::string(kCoreBlocks) + *block + "." : std::string()) +
           std::string(found->core);
}

bool may_be_whole(Role role, const std::string& linear) {
    return (role != Role::kWeight && role != Role::kBias) || linear == kProjection;
}

}  // namespace

std::optional<LoraKey> parse_key(const std::string& key) {
    for (const Grammar& grammar : kGrammars) {
        if (!key.starts_with(grammar.prefix)) {
            continue;
        }
        for (const Ending& ending : grammar.endings) {
            if (ending.text.empty() || !key.ends_with(ending.text) ||
                key.size() <= grammar.prefix.size() + ending.text.size()) {
                continue;
            }
            const auto linear = linear_of(
                grammar.dialect, std::string_view(key).substr(
                                     grammar.prefix.size(),
                                     key.size() - grammar.prefix.size() - ending.text.size()));
            if (linear && may_be_whole(ending.role, *linear)) {
                return LoraKey{grammar.dialect, *linear, ending.role};
            }
        }
    }
    return std::nullopt;
}

std::string dialect_key(Dialect dialect, const std::string& linear, Role role) {
    const Grammar& grammar = grammar_of(dialect);
    const auto name = spelled(dialect, linear);
    const auto* const ending = std::find_if(
        grammar.endings.begin(), grammar.endings.end(),
        [&](const Ending& candidate) { return candidate.role == role && !candidate.text.empty(); });
    if (!name || ending == grammar.endings.end()) {
        throw RunError("adapter: " + linear + ": the " + grammar.name +
                       " dialect has no key for this tensor");
    }
    return std::string(grammar.prefix) + *name + std::string(ending->text);
}

bool of_other_programs(const std::string& linear) {
    return spelled(Dialect::kKohya, linear).has_value() && linear != kProjection &&
           linear.find(".attn1.") == std::string::npos;
}

std::string not_applied_text(const std::string& linear) {
    return "a LoRA of " + linear +
           ", which this program does not apply; it applies to_q, to_k, to_v, to_out.0 and "
           "patch_embed.proj";
}

const char* dialect_name(Dialect dialect) {
    return grammar_of(dialect).name;
}

}  // namespace matrix::lora
