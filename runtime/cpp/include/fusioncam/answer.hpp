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
#include "picture.hpp"

namespace fusioncam {
namespace detail {

/// Throws UsageError where there is no such class; -1 is the top class.
inline void check_class(std::int64_t index, const Manifest &manifest) {
    const auto classes = static_cast<std::int64_t>(manifest.classes);
    if (index < -1 || index >= classes) {
        throw UsageError("there is no class " + std::to_string(index) + ": the model has " + std::to_string(classes) +
                         ", 0 to " + std::to_string(classes - 1));
    }
}

[[noreturn]] inline void refuse_array(const std::string &type, const std::string &shape, const Manifest &manifest) {
    const Size size = manifest.preprocessing.size;
    throw ImageError("cannot explain a " + type + " array of shape " + shape +
                     ": pass a path, an (H, W, 3) uint8 RGB array of at most " + thousands(MAX_PIXELS) +
                     " pixels, or a preprocessed float32 (3, " + std::to_string(size.height) + ", " +
                     std::to_string(size.width) + ") array");
}

/// The photo as the model's input; throws ImageError where it is empty or too large.
inline std::vector<float> input_of(const PhotoView &photo, const Manifest &manifest) {
    const Size size = photo.size;
    // Divided, since the product of two absurd sizes may overflow.
    if (!photo.rgb || !size.height || !size.width || size.height > MAX_PIXELS / size.width) {
        refuse_array("uint8", shape_text<std::size_t>({size.height, size.width, 3}), manifest);
    }
    return preprocess(photo, manifest.preprocessing);
}

/// Throws ImageError where a preprocessed input has another shape than the model's, or holds NaN or infinity.
inline void check_input(const InputView &input, const Manifest &manifest) {
    const auto height = static_cast<std::int64_t>(manifest.preprocessing.size.height);
    const auto width = static_cast<std::int64_t>(manifest.preprocessing.size.width);
    const std::vector<std::int64_t> one{3, height, width}, batch{1, 3, height, width};
    if (!input.values || (input.shape != one && input.shape != batch)) {
        refuse_array("float32", shape_text(input.shape), manifest);
    }
    if (!std::all_of(input.values, input.values + 3 * height * width, [](float v) { return std::isfinite(v); })) {
        throw ImageError("the input array holds NaN or infinity: check how it was preprocessed");
    }
}

/// The explanation that a graph's checked outputs make for an input `x`; `photo` is the size of the photo, if any.
inline Explanation answer(Outputs outputs, const float *x, std::int64_t asked, std::optional<Size> photo,
                          const Manifest &m) {
    Explanation e;
    e.logits = std::move(outputs.at("logits"));
    e.probabilities = probabilities(e.logits, m.ending);
    e.class_index = asked >= 0 ? asked : std::max_element(e.logits.begin(), e.logits.end()) - e.logits.begin();
    const auto index = static_cast<std::size_t>(e.class_index);
    e.probability = e.probabilities[index];
    if (!m.labels.empty()) {
        e.label = m.labels[index];
    }
    for (const char *method : METHODS) {
        std::vector<float> &values = outputs.at(method);
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
    e.photo_size = photo;
    e.preprocessing = m.preprocessing;
    return e;
}

} // namespace detail
} // namespace fusioncam

#endif
