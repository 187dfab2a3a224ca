// What is explained: a class, a class over a region of the picture, a detection, or the likeness to a vector. See
// Python's targets.
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

#include "detections.hpp"
#include "error.hpp"
#include "geometry.hpp"
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

/// A detection, by its class, its box or both; of a detector Class{c} is Box{c}.
struct Box {
    std::int64_t index = -1;    ///< the class that is explained; -1: that of the detection
    std::optional<Corners> box; ///< in pixels of the photo, or of an input that came preprocessed: the detection that
                                ///< overlaps it most, by half or more; none: that of the highest score
    std::optional<double> conf; ///< the least score of a detection, 0..1; none: that of the manifest
};

using Target = std::variant<Class, Region, Like, Box>;

namespace detail {

/// The tensors of a target, one row each, as the graph takes them beside the picture; it takes some of them.
struct TargetTensors {
    std::int64_t class_index = -1;
    std::vector<float> region;
    std::uint8_t peak = 0;
    std::vector<float> reference;
    std::array<float, 4> box{};        // of no area: any
    std::int64_t anchor = -1;          // the one that fits best
    std::array<float, 5> weights{};    // none: of the class

    /// The values of a tensor, by its name.
    const void *at(const std::string &name) const {
        const std::map<std::string, const void *> values{
            {"class_index", &class_index}, {"region", region.data()}, {"peak", &peak},       {"reference", reference.data()},
            {"box", box.data()},           {"anchor", &anchor},       {"weights", weights.data()}};
        return values.at(name);
    }
};

/// The label of a class, or its number.
inline std::string name_of_class(std::int64_t index, const Manifest &manifest) {
    return manifest.labels.empty() ? "class " + std::to_string(index) : manifest.labels[static_cast<std::size_t>(index)];
}

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
    if (manifest.is_detector()) {
        return {"detects", "use Box"};
    }
    if (manifest.has_maps()) {
        return {manifest.ending == "value" ? "gives heat maps" : "segments", "use Class or Region"};
    }
    return {manifest.ending == "value" ? "gives values" : "classifies", "use Class"};
}

/// The detection that a target asks for, by a box or as a mere class; none where it is another kind of target.
inline std::optional<Box> box_of(const Target &target) {
    const auto *box = std::get_if<Box>(&target);
    const auto *of_class = std::get_if<Class>(&target);
    return box ? std::optional<Box>(*box) : of_class ? std::optional<Box>(Box{of_class->index, {}, {}}) : std::nullopt;
}

/// Throws UsageError for a least score that is none.
inline void check_conf(std::optional<double> conf) {
    if (conf && !(*conf >= 0 && *conf <= 1)) {
        throw UsageError("conf must be a number from 0 to 1, not " + formatted("%g", *conf));
    }
}

/// The tensors of a detection; throws UsageError where a detector has none such.
inline TargetTensors tensors_of_box(const Box &target, std::optional<Size> photo, const Manifest &manifest) {
    TargetTensors result;
    check_conf(target.conf);
    if (target.index >= 0 && manifest.boxes.background == static_cast<std::size_t>(target.index)) {
        throw UsageError(name_of_class(target.index, manifest) + " is the background, which is never detected");
    }
    result.class_index = target.index;
    if (target.box) {
        const auto [x1, y1, x2, y2] = *target.box;
        if (!(x1 < x2 && y1 < y2 && std::isfinite(x1 + y1 + x2 + y2))) {
            std::string text;
            for (const double edge : *target.box) {
                text += (text.empty() ? "" : ", ") + formatted("%g", edge);
            }
            throw UsageError("a box is (x1, y1, x2, y2) in pixels of the photo, x1 < x2 and y1 < y2, not (" + text + ")");
        }
        const Axes way = way_of(photo, manifest.preprocessing);
        for (std::size_t i = 0; i < result.box.size(); ++i) {
            const Axis &axis = i % 2 ? way.rows : way.columns;
            const double scale = axis.resized / static_cast<double>(axis.whole);
            result.box[i] = static_cast<float>((*target.box)[i] * scale - axis.start);
        }
    }
    return result;
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
    const auto *box = std::get_if<Box>(&target);
    if ((like && !manifest.is_embedding()) || (region && !manifest.has_maps()) || (box && !manifest.is_detector())) {
        const std::string kind = like ? "Like" : region ? "Region" : "Box";
        throw UsageError(kind + " does not fit a model that " + does + ": " + takes);
    }
    if (like) {
        result.reference = unit_reference(like->reference, manifest);
        return result;
    }
    result.class_index = region ? region->index : box ? box->index : std::get<Class>(target).index;
    check_class(result.class_index, manifest);
    if (manifest.is_detector()) {
        return tensors_of_box(*box_of(target), photo, manifest);
    }
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
