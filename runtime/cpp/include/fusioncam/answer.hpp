// From a picture to the input of a graph, and from its outputs to an explanation, whoever runs the graph.
#ifndef FUSIONCAM_ANSWER_HPP
#define FUSIONCAM_ANSWER_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"
#include "explanation.hpp"
#include "geometry.hpp"
#include "interface.hpp"
#include "manifest.hpp"
#include "naming.hpp"
#include "picture.hpp"
#include "target.hpp"

namespace fusioncam {
namespace detail {

[[noreturn]] inline void refuse_array(const std::string &type, const std::string &shape, const Manifest &manifest) {
    const Preprocessing &p = manifest.preprocessing;
    const std::string channels = std::to_string(p.channels());
    const std::string array = p.channel_order == "grey" ? "an (H, W) grey or (H, W, 3) RGB uint8 array"
                              : p.takes_photos()        ? "an (H, W, 3) uint8 RGB array"
                                                        : "an (H, W, " + channels + ") array";
    throw ImageError("cannot explain a " + type + " array of shape " + shape + ": pass a path, " + array +
                     " of at most " + thousands(MAX_PIXELS) + " pixels, or a preprocessed float32 (" + channels + ", " +
                     std::to_string(p.size.height) + ", " + std::to_string(p.size.width) + ") array");
}

/// The photo as the model's input; throws ImageError where it is empty or too large.
inline std::vector<float> input_of(const PhotoView &photo, const Manifest &manifest) {
    const Size size = photo.size;
    // Divided, since the product of two absurd sizes may overflow.
    if (!photo.rgb || !size.height || !size.width || size.height > MAX_PIXELS / size.width) {
        refuse_array("uint8", shape_text<std::size_t>({size.height, size.width, 3}), manifest);
    }
    if (!manifest.preprocessing.takes_photos()) {
        throw ImageError("the model takes bands, and not the colours of a photo: pass a preprocessed input of " +
                         std::to_string(manifest.preprocessing.channels()) + " channels");
    }
    return preprocess(photo, manifest.preprocessing);
}

/// Throws ImageError where a preprocessed input has another shape than the model's, or holds NaN or infinity.
inline void check_input(const InputView &input, const Manifest &manifest) {
    const auto height = static_cast<std::int64_t>(manifest.preprocessing.size.height);
    const auto width = static_cast<std::int64_t>(manifest.preprocessing.size.width);
    const auto channels = static_cast<std::int64_t>(manifest.preprocessing.channels());
    const std::vector<std::int64_t> one{channels, height, width}, batch{1, channels, height, width};
    if (!input.values || (input.shape != one && input.shape != batch)) {
        refuse_array("float32", shape_text(input.shape), manifest);
    }
    if (!std::all_of(input.values, input.values + channels * height * width, [](float v) { return std::isfinite(v); })) {
        throw ImageError("the input array holds NaN or infinity: check how it was preprocessed");
    }
}

/// Fills in the target of an explanation, its score and its confidence, from a graph's outputs.
inline void read_target(Explanation &e, Outputs &outputs, std::int64_t asked, const Manifest &m) {
    auto &floats = outputs.floats;
    if (m.is_embedding() || m.has_maps() || m.is_detector()) {
        e.score = floats.at("scores").front();
        e.probability = floats.at("confidences").front();
    }
    if (m.is_embedding()) {
        e.embedding = std::move(floats.at("embedding"));
        e.label = "like a vector";
        return;
    }
    if (m.is_detector()) {
        const Anchors anchors(floats.at("detections"), e.photo_size, m);
        e.class_index = outputs.integers.at("explained_class").front();
        e.box = anchors.on_photo(floats.at("explained_box").data());
        e.detections = anchors.found(m.boxes.conf);
    } else if (e.logits = std::move(floats.at("logits")); m.has_maps()) {
        e.class_index = outputs.integers.at("explained_class").front();
        e.region = {m.map_size, std::move(floats.at("explained_region"))};
    } else {
        e.probabilities = probabilities(e.logits, m.ending);
        e.class_index = asked >= 0 ? asked : std::max_element(e.logits.begin(), e.logits.end()) - e.logits.begin();
        e.score = e.logits[static_cast<std::size_t>(e.class_index)];
        e.probability = e.probabilities[static_cast<std::size_t>(e.class_index)];
    }
    if (!m.labels.empty()) {
        e.label = m.labels[static_cast<std::size_t>(e.class_index)];
    } else if (m.has_maps() && m.ending == "value") {
        e.label = "value " + std::to_string(e.class_index);
    }
}

/// The explanation that a graph's checked outputs make for an input `x`; `photo` is the size of the photo, if any.
inline Explanation answer(Outputs outputs, const float *x, const TargetTensors &target, std::optional<Size> photo,
                          const Manifest &m) {
    Explanation e;
    e.photo_size = photo;
    read_target(e, outputs, target.class_index, m);
    for (const char *method : METHODS) {
        std::vector<float> &values = outputs.floats.at(method);
        if (std::all_of(values.begin(), values.end(), [](float v) { return v == 0; })) {
            e.flags.push_back(std::string("flat_") + method);
        }
        e.maps[method] = {m.preprocessing.size, std::move(values)};
    }
    if (m.preprocessing.origin == "assumed") {
        e.flags.emplace_back("assumed_preprocessing");
    }
    if (is_dark(x, m.preprocessing)) {
        e.flags.emplace_back("dark_picture");
    }
    if (m.reach == "out_of_reach") {
        e.flags.emplace_back("logits_out_of_reach");
    } else if (m.reach == "doubtful") {
        e.flags.emplace_back("doubtful_logits");
    }
    e.preprocessing = m.preprocessing;
    return e;
}

/// The explanation of a target for an input `x`; `run` gives all outputs for tensors of a target, of which the graph may
/// have to be told a second time: where the detection that is named is not the one that fits best.
template <typename Run>
Explanation explained(const float *x, const Target &target, TargetTensors tensors, std::optional<Size> photo,
                      const Manifest &m, const Run &run) {
    Outputs outputs = run(tensors);
    if (points_elsewhere(target, outputs, photo, tensors, m)) {
        outputs = run(tensors);
    }
    check_outputs(outputs, m);
    return answer(std::move(outputs), x, tensors, photo, m);
}

} // namespace detail
} // namespace fusioncam

#endif
