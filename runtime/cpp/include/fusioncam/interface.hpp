// The files, inputs and outputs of the whole method as one graph, whoever runs it.
#ifndef FUSIONCAM_INTERFACE_HPP
#define FUSIONCAM_INTERFACE_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <numeric>
#include <string>
#include <system_error>
#include <vector>

#include "error.hpp"
#include "manifest.hpp"
#include "picture.hpp"
#include "target.hpp"

namespace fusioncam {
namespace detail {

inline constexpr const char *SINGLE_GRAPH = "fusioncam.onnx", *EXPLAIN_GRAPH = "explain.onnx",
                            *MANIFEST = "manifest.json";
inline constexpr std::array<const char *, 3> METHODS{"fusion_cam", "grad_cam", "score_cam"};

/// Types and shapes by "input NAME" and "output NAME", as texts: "float32 (1, 3, 224, 224)".
using Interface = std::map<std::string, std::string>;

/// An input or output of a single graph.
struct Tensor {
    std::string name, type; ///< float32, int64 or bool
    std::vector<std::int64_t> shape;

    std::size_t count() const {
        return static_cast<std::size_t>(std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()));
    }
    std::size_t bytes() const { return count() * (type == "float32" ? 4 : type == "int64" ? 8 : 1); }
};

/// What a run gives, by names of outputs; `integers` are those of int64.
struct Outputs {
    std::map<std::string, std::vector<float>> floats;
    std::map<std::string, std::vector<std::int64_t>> integers;

    /// Room for the values of an output.
    void *room(const Tensor &tensor) {
        if (tensor.type == "int64") {
            integers[tensor.name].resize(tensor.count());
            return integers[tensor.name].data();
        }
        floats[tensor.name].resize(tensor.count());
        return floats[tensor.name].data();
    }
};

/// The graph's file behind what a user gave.
inline std::filesystem::path graph_file(const std::filesystem::path &given) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(given, ignored)) {
        return given;
    }
    if (std::filesystem::is_regular_file(given / SINGLE_GRAPH, ignored)) {
        return given / SINGLE_GRAPH;
    }
    if (std::filesystem::exists(given / MANIFEST, ignored)) {
        throw BundleError(path_text(given) + " lacks " + SINGLE_GRAPH + "; export the model again, with --single");
    }
    throw BundleError(path_text(given) + " is no bundle: it holds no " + MANIFEST +
                      "; make one with `fusioncam export`");
}

inline std::vector<std::int64_t> dims(std::initializer_list<std::size_t> sizes) { return {sizes.begin(), sizes.end()}; }

/// The inputs of a single graph with this manifest: the picture, and the target.
inline std::vector<Tensor> inputs_of(const Manifest &m) {
    const Size size = m.preprocessing.size, map = m.map_size;
    std::vector<Tensor> result{{"image", "float32", dims({1, m.preprocessing.channels(), size.height, size.width})}};
    if (m.is_embedding()) {
        result.push_back({"reference", "float32", dims({1, m.classes})});
        return result;
    }
    result.push_back({"class_index", "int64", {1}});
    if (m.is_detector()) {
        result.push_back({"box", "float32", {1, 4}});
        result.push_back({"anchor", "int64", {1}});
        result.push_back({"weights", "float32", {1, 5}});
    }
    if (m.has_maps()) {
        result.push_back({"region", "float32", dims({1, map.height, map.width})});
        result.push_back({"peak", "bool", {1}});
    }
    return result;
}

/// What targets are read from: detections, an embedding or logits.
inline Tensor form_of(const Manifest &m) {
    const Size map = m.map_size;
    if (m.is_detector()) {
        return {"detections", "float32", dims({1, m.boxes.anchors, 4 + m.numbers() + m.boxes.extras})};
    }
    return {m.is_embedding() ? "embedding" : "logits", "float32",
            m.has_maps() ? dims({1, m.classes, map.height, map.width}) : dims({1, m.classes})};
}

/// The outputs of a single graph with this manifest.
inline std::vector<Tensor> outputs_of(const Manifest &m) {
    const Size size = m.preprocessing.size, map = m.map_size;
    std::vector<Tensor> result{form_of(m)};
    for (const char *method : METHODS) {
        result.push_back({method, "float32", dims({1, size.height, size.width})});
    }
    if (m.is_embedding() || m.has_maps() || m.is_detector()) {
        result.push_back({"scores", "float32", {1}});
        result.push_back({"confidences", "float32", {1}});
    }
    if (m.is_detector()) {
        result.push_back({"explained_class", "int64", {1}});
        result.push_back({"explained_box", "float32", {1, 4}});
        result.push_back({"explained_anchor", "int64", {1}});
    }
    if (m.has_maps()) {
        result.push_back({"explained_class", "int64", {1}});
        result.push_back({"explained_region", "float32", dims({1, map.height, map.width})});
    }
    return result;
}

/// The interface of a single graph with this manifest.
inline Interface interface_of(const Manifest &manifest) {
    Interface result;
    for (const Tensor &tensor : inputs_of(manifest)) {
        result["input " + tensor.name] = tensor.type + " " + shape_text(tensor.shape);
    }
    for (const Tensor &tensor : outputs_of(manifest)) {
        result["output " + tensor.name] = tensor.type + " " + shape_text(tensor.shape);
    }
    return result;
}

/// Throws BundleError unless all inputs and outputs of a single graph are found; `start` and `remedy` frame the text.
inline void check_interface(Interface found, const Manifest &manifest, const std::string &start,
                            const std::string &remedy) {
    for (const auto &[name, type] : interface_of(manifest)) {
        if (found[name] != type) {
            throw BundleError(start + ": its " + name + " is " + (found[name].empty() ? "missing" : found[name]) +
                              ", not " + type + "; " + remedy);
        }
    }
}

/// Throws NotFiniteError where an output is not finite.
inline void check_finite(const Outputs &outputs, const Tensor &tensor) {
    const std::vector<float> &values = outputs.floats.at(tensor.name);
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
        throw NotFiniteError("the model gives NaN or infinite " + tensor.name +
                             " for this picture; check its preprocessing, or use float32 weights");
    }
}

/// Throws UsageError for a class that wins nowhere in a picture, and names those that do.
[[noreturn]] inline void refuse_absent(std::int64_t index, const std::vector<float> &logits, const Manifest &manifest) {
    constexpr std::size_t NAMED = 5;
    const std::size_t cells = manifest.map_size.height * manifest.map_size.width;
    std::vector<std::size_t> areas(manifest.classes), order;
    for (std::size_t cell = 0; cell < cells; ++cell) {
        std::size_t best = 0;
        for (std::size_t c = 0; c < manifest.classes; ++c) {
            best = logits[c * cells + cell] > logits[best * cells + cell] ? c : best;
            areas[c] += manifest.ending == "sigmoid" && logits[c * cells + cell] > 0;
        }
        areas[best] += manifest.ending != "sigmoid";
    }
    for (std::size_t c = 0; c < manifest.classes; ++c) {
        if (areas[c]) {
            order.push_back(c);
        }
    }
    std::stable_sort(order.begin(), order.end(), [&areas](std::size_t a, std::size_t b) { return areas[a] > areas[b]; });
    const auto name = [&manifest](std::size_t c) { return name_of_class(static_cast<std::int64_t>(c), manifest); };
    std::string named;
    for (std::size_t i = 0; i < std::min(order.size(), NAMED); ++i) {
        named += (i ? ", " : "these do: ") + name(order[i]);
    }
    throw UsageError(name(static_cast<std::size_t>(index)) + " wins nowhere in this picture; " +
                     (order.empty() ? "no class does, so give a mask" : named + (order.size() > NAMED ? ", ..." : "")));
}

/// Throws UsageError where the class wins nowhere, NotFiniteError where what came out is not finite.
inline void check_outputs(const Outputs &outputs, const Manifest &manifest) {
    if (manifest.has_maps()) {
        const std::vector<float> &region = outputs.floats.at("explained_region");
        if (std::all_of(region.begin(), region.end(), [](float weight) { return weight == 0; })) {
            refuse_absent(outputs.integers.at("explained_class").front(), outputs.floats.at("logits"), manifest);
        }
    }
    for (const Tensor &tensor : outputs_of(manifest)) {
        if (tensor.type == "float32") {
            check_finite(outputs, tensor);
        }
    }
}

} // namespace detail
} // namespace fusioncam

#endif
