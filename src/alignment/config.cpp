#include "matrix/alignment/config.h"

#include <set>

namespace matrix::alignment {
namespace {

FieldTable sga_fields(SgaConfig& c) {
    FieldTable t;
    t.add("blocks", &c.blocks, "Blocks whose maps are averaged and supervised, from 0.").range(0);
    t.add("weight", &c.weight, "lambda_SGA, the factor of the grounding loss.").range(0);
    t.add("rows", &c.rows,
          "v2t reads video queries against text keys; t2v text queries against video keys (the "
          "paper's ablation).")
        .one_of({"v2t", "t2v"});
    return t;
}

FieldTable spa_fields(SpaConfig& c) {
    FieldTable t;
    t.add("blocks", &c.blocks, "Blocks whose maps are averaged and supervised, from 0.").range(0);
    t.add("weight", &c.weight, "lambda_SPA, the factor of the propagation loss.").range(0);
    t.add("query", &c.query,
          "First-frame cells of an instance: half = at least half of the cell's pixels are its "
          "own (else the best-covered cell); nearest = the cell's top-left pixel is.")
        .one_of({"half", "nearest"});
    return t;
}

void check_blocks(const std::vector<std::int64_t>& blocks, const std::string& path,
                  std::int64_t num_blocks, std::vector<std::string>& faults) {
    if (blocks.empty()) {
        faults.push_back(path + ": no block is named; set the term to null to switch it off");
    }
    std::set<std::int64_t> seen;
    for (const std::int64_t block : blocks) {
        if (block < 0 || block >= num_blocks) {
            faults.push_back(path + ": the model has no block " + std::to_string(block) +
                             ", its blocks are 0.." + std::to_string(num_blocks - 1));
        }
        if (!seen.insert(block).second) {
            faults.push_back(path + ": block " + std::to_string(block) + " is named twice");
        }
    }
}

}  // namespace

FieldTable fields(AlignmentConfig& c) {
    FieldTable t;
    t.add_optional_section("sga", sga_fields(*c.sga), c.sga.present,
                           "Semantic grounding alignment; null switches it off.");
    t.add_optional_section("spa", spa_fields(*c.spa), c.spa.present,
                           "Semantic propagation alignment; null switches it off.");
    t.add("readout", &c.readout,
          "What is read from attention: the scaled query-key products, or their softmax over all "
          "keys.")
        .one_of({"logits", "probabilities"});
    t.add("center", &c.center,
          "v2t logits only: subtract the mean key over the text rows, or over all rows, from an "
          "entity's mean key.")
        .one_of({"none", "text", "all"});
    t.add("head", &c.head,
          "Decoder from a map to mask logits: scaled upsampling plus a residual, scaled upsampling "
          "alone, or a free convolutional decoder.")
        .one_of({"residual", "affine", "conv"});
    t.add("head_learning_rate", &c.head_learning_rate, "Learning rate of the heads.").range(0);
    t.add("bce", &c.bce, "Coefficient of the binary cross-entropy.").range(0);
    t.add("dice", &c.dice, "Coefficient of 1 - Dice.").range(0);
    t.add("l2", &c.l2, "Coefficient of the mean squared error.").range(0);
    t.add("positive_class_weight", &c.positive_class_weight,
          "Weigh mask pixels in the cross-entropy by negatives / positives, at most 10.");
    return t;
}

std::vector<std::string> check(const AlignmentConfig& config, std::int64_t num_blocks) {
    std::vector<std::string> faults;
    if (config.readout == "probabilities" && config.center != "none") {
        faults.push_back("alignment.center: \"" + config.center +
                         "\" concerns logits, and alignment.readout is \"probabilities\"; set one "
                         "of them back to its default");
    }
    if (config.sga) {
        check_blocks(config.sga->blocks, "alignment.sga.blocks", num_blocks, faults);
    }
    if (config.spa) {
        check_blocks(config.spa->blocks, "alignment.spa.blocks", num_blocks, faults);
    }
    return faults;
}

std::vector<std::string> warnings(const AlignmentConfig& config) {
    std::vector<std::string> lines;
    if (config.head == "conv" && (config.sga || config.spa)) {
        lines.emplace_back(
            "alignment.head: a free decoder (\"conv\") can lower both losses while attention moves "
            "away from the instances; watch the validation scores, or use \"residual\"");
    }
    if (config.center != "none" && config.readout == "logits" &&
        !(config.sga && config.sga->rows == "v2t")) {
        lines.push_back("alignment.center: \"" + config.center +
                        "\" changes v2t rows alone, and no term reads any");
    }
    return lines;
}

}  // namespace matrix::alignment
