// The files, inputs and outputs of the whole method as one graph, whoever runs it.
#ifndef FUSIONCAM_INTERFACE_HPP
#define FUSIONCAM_INTERFACE_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include "error.hpp"
#include "manifest.hpp"
#include "picture.hpp"

namespace fusioncam {
namespace detail {

inline constexpr const char *SINGLE_GRAPH = "fusioncam.onnx", *MANIFEST = "manifest.json";
inline constexpr std::array<const char *, 3> METHODS{"fusion_cam", "grad_cam", "score_cam"};
inline constexpr std::array<const char *, 4> OUTPUTS{"logits", "fusion_cam", "grad_cam", "score_cam"};

/// Types and shapes by "input NAME" and "output NAME", as texts: "float32 (1, 3, 224, 224)".
using Interface = std::map<std::string, std::string>;

/// What a run gives: values by the names of OUTPUTS.
using Outputs = std::map<std::string, std::vector<float>>;

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

/// The interface of a single graph with this manifest.
inline Interface interface_of(const Manifest &manifest) {
    const Size size = manifest.preprocessing.size;
    const std::string map = "float32 " + shape_text<std::size_t>({1, size.height, size.width});
    return {{"input image", "float32 " + shape_text<std::size_t>({1, 3, size.height, size.width})},
            {"input class_index", "int64 (1,)"},
            {"output fusion_cam", map},
            {"output grad_cam", map},
            {"output score_cam", map},
            {"output logits", "float32 " + shape_text<std::size_t>({1, manifest.classes})}};
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

/// Throws Error where what came out is not what was announced, NotFiniteError where it is not finite.
inline void check_outputs(const Outputs &outputs, const Manifest &manifest) {
    const Size size = manifest.preprocessing.size;
    for (const std::string name : OUTPUTS) {
        const std::vector<float> &values = outputs.at(name);
        if (values.size() != (name == "logits" ? manifest.classes : size.height * size.width)) {
            throw Error("the model gives " + std::to_string(values.size()) + " values as " + name +
                        "; export it again, with --single");
        }
        if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
            throw NotFiniteError("the model gives NaN or infinite " + name +
                                 " for this picture; check its preprocessing, or use float32 weights");
        }
    }
}

} // namespace detail
} // namespace fusioncam

#endif
