// What is explained: a class, a class over a region of the picture, or the likeness to a vector. See Python's targets.
#ifndef FUSIONCAM_TARGET_HPP
#define FUSIONCAM_TARGET_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "error.hpp"
#include "manifest.hpp"
#include "mask.hpp"
#include "picture.hpp"

namespace fusioncam {

/// A class of a classifier, -1 the top one; of a segmenter where it wins, -1 the one that covers most of the picture; or a
/// value, or a heat map over the whole picture.
struct Class {
    std::int64_t index = -1;
};

/// A class of a segmenter over a region of the picture, or a heat map over a region.
struct Region {
    std::int64_t index = -1;  ///< -1: the class that has most of the mask, or of the picture
    std::optional<Mask> mask; ///< of the photo's size; none: where the class wins, or all of a heat map
    bool peak = false;        ///< explain the largest value in the region, in place of the mean
};

/// Likeness of the picture's embedding to a reference: the cosine of the angle between both.
struct Like {
    std::vector<float> reference; ///< see Embedder and read_vector
};

using Target = std::variant<Class, Region, Like>;

namespace detail {

/// The tensors of a target, one row each, as the graph takes them beside the picture; it takes some of them.
struct TargetTensors {
    std::int64_t class_index = -1;
    std::vector<float> region;
    std::uint8_t peak = 0;
    std::vector<float> reference;

    /// The values of a tensor, by its name.
    const void *at(const std::string &name) const {
        const std::map<std::string, const void *> values{
            {"class_index", &class_index}, {"region", region.data()}, {"peak", &peak}, {"reference", reference.data()}};
        return values.at(name);
    }
};

/// Throws UsageError where there is no such class; -1 is the top class.
inline void check_class(std::int64_t index, const Manifest &manifest) {
    const auto classes = static_cast<std::int64_t>(manifest.classes);
    if (index < -1 || index >= classes) {
        throw UsageError("there is no class " + std::to_string(index) + ": the model has " + std::to_string(classes) +
                         ", 0 to " + std::to_string(classes - 1));
    }
}

/// What a model does, and the kinds of targets that fit it, as errors name them.
inline std::array<std::string, 2> does_and_takes(const Manifest &manifest) {
    if (manifest.is_embedding()) {
        return {"gives an embedding", "use Like"};
    }
    if (manifest.has_maps()) {
        return {manifest.ending == "value" ? "gives heat maps" : "segments", "use Class or Region"};
    }
    return {manifest.ending == "value" ? "gives values" : "classifies", "use Class"};
}

/// A reference scaled to length 1, which changes no angle and keeps products small; throws UsageError where it is not of
/// the length of the model's embeddings, or has no direction.
inline std::vector<float> unit_reference(const std::vector<float> &reference, const Manifest &manifest) {
    if (reference.size() != manifest.classes) {
        throw UsageError("the reference has " + std::to_string(reference.size()) + " numbers, but the embedding " +
                         std::to_string(manifest.classes) + ": use the same model's");
    }
    if (!std::all_of(reference.begin(), reference.end(), [](float v) { return std::isfinite(v); })) {
        throw UsageError("the reference holds NaN or infinity: compute it again");
    }
    if (std::all_of(reference.begin(), reference.end(), [](float v) { return v == 0; })) {
        throw UsageError("the reference is zero everywhere: nothing is like it; compute it again");
    }
    const double length = std::sqrt(std::inner_product(reference.begin(), reference.end(), reference.begin(), 0.0));
    std::vector<float> result(reference.size());
    std::transform(reference.begin(), reference.end(), result.begin(),
                   [length](float v) { return static_cast<float>(v / length); });
    return result;
}

/// The tensors of a target of a photo of this size, none where the input came preprocessed; throws UsageError where the
/// model, or the photo, has no such target.
inline TargetTensors tensors_of(const Target &target, std::optional<Size> photo, const Manifest &manifest) {
    TargetTensors result;
    const auto *like = std::get_if<Like>(&target);
    const auto *region = std::get_if<Region>(&target);
    const auto [does, takes] = does_and_takes(manifest);
    if (const auto *one = std::get_if<Class>(&target); one && manifest.is_embedding()) {
        throw UsageError(one->index < 0 ? "an embedding needs a reference to be compared with: name one, Like{vector}"
                                        : "a model that " + does + " has no classes: " + takes);
    }
    if ((like && !manifest.is_embedding()) || (region && !manifest.has_maps())) {
        throw UsageError((like ? "Like does not fit a model that " : "Region does not fit a model that ") + does + ": " +
                         takes);
    }
    if (like) {
        result.reference = unit_reference(like->reference, manifest);
        return result;
    }
    result.class_index = region ? region->index : std::get<Class>(target).index;
    check_class(result.class_index, manifest);
    if (region && region->mask) {
        result.region = shares(*region->mask, photo, manifest);
    }
    result.region.resize(manifest.map_size.height * manifest.map_size.width); // of zeros: where the class wins
    result.peak = region && region->peak;
    return result;
}

} // namespace detail
} // namespace fusioncam

#endif
