// Opens a single graph, fusioncam.onnx, and runs it.
#ifndef FUSIONCAM_EXPLAINER_HPP
#define FUSIONCAM_EXPLAINER_HPP

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"
#include "explanation.hpp"
#include "geometry.hpp"
#include "graph.hpp"
#include "manifest.hpp"
#include "picture.hpp"

namespace fusioncam {

/// Explains pictures with a bundle that `fusioncam export --single` made.
///
/// One Explainer may be used by any number of threads at once: `explain` changes nothing in it, and onnxruntime's
/// sessions may be run concurrently. Each run works with onnxruntime's threads, so more callers than cores gain
/// nothing.
class Explainer {
  public:
    /// Opens a bundle folder that holds fusioncam.onnx, or that file itself, which may lie anywhere.
    ///
    /// `options` chooses execution providers and threads: onnxruntime's own object, see `default_options`.
    /// Throws BundleError where it is no bundle, is damaged, is of another version or is another model's graph.
    explicit Explainer(const std::filesystem::path &bundle, const Ort::SessionOptions &options = default_options())
        : graph_(bundle, options) {}

    /// The CPU, and errors as exceptions only, without onnxruntime's lines on stderr.
    static Ort::SessionOptions default_options() {
        detail::require_library();
        Ort::SessionOptions options;
        options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);
        return options;
    }

    const Manifest &manifest() const { return graph_.manifest(); }

    /// Explains a class of a photo of any size; -1 is the top class.
    ///
    /// `run` may be shared with another thread, whose `run.SetTerminate()` ends the call with a DeadlineError.
    /// Throws ImageError where the photo is empty or too large, UsageError where there is no such class, NotFiniteError
    /// where the model gives NaN or infinity, Error where it cannot run.
    Explanation explain(const PhotoView &photo, std::int64_t class_index = -1,
                        const Ort::RunOptions &run = Ort::RunOptions{nullptr}) const {
        check_class(class_index);
        const Size size = photo.size;
        // Divided, since the product of two absurd sizes may overflow.
        if (!photo.rgb || !size.height || !size.width || size.height > MAX_PIXELS / size.width) {
            refuse("uint8", detail::shape_text<std::size_t>({size.height, size.width, 3}));
        }
        const std::vector<float> x = preprocess(photo, manifest().preprocessing);
        return found(x.data(), class_index, run, size);
    }

    /// Explains a class of a preprocessed input; the values are not copied. Otherwise as above.
    Explanation explain(const InputView &input, std::int64_t class_index = -1,
                        const Ort::RunOptions &run = Ort::RunOptions{nullptr}) const {
        check_class(class_index);
        const auto height = static_cast<std::int64_t>(manifest().preprocessing.size.height);
        const auto width = static_cast<std::int64_t>(manifest().preprocessing.size.width);
        const std::vector<std::int64_t> one{3, height, width}, batch{1, 3, height, width};
        if (!input.values || (input.shape != one && input.shape != batch)) {
            refuse("float32", detail::shape_text(input.shape));
        }
        if (!std::all_of(input.values, input.values + 3 * height * width, [](float v) { return std::isfinite(v); })) {
            throw ImageError("the input array holds NaN or infinity: check how it was preprocessed");
        }
        return found(input.values, class_index, run, std::nullopt);
    }

  private:
    [[noreturn]] void refuse(const std::string &type, const std::string &shape) const {
        const Size size = manifest().preprocessing.size;
        throw ImageError("cannot explain a " + type + " array of shape " + shape +
                         ": pass a path, an (H, W, 3) uint8 RGB array of at most " + detail::thousands(MAX_PIXELS) +
                         " pixels, or a preprocessed float32 (3, " + std::to_string(size.height) + ", " +
                         std::to_string(size.width) + ") array");
    }

    void check_class(std::int64_t index) const {
        const auto classes = static_cast<std::int64_t>(manifest().classes);
        if (index < -1 || index >= classes) {
            throw UsageError("there is no class " + std::to_string(index) + ": the model has " +
                             std::to_string(classes) + ", 0 to " + std::to_string(classes - 1));
        }
    }

    Explanation found(const float *x, std::int64_t asked, const Ort::RunOptions &run, std::optional<Size> photo) const {
        std::map<std::string, std::vector<float>> outputs = graph_.run(x, asked, run);
        const Manifest &m = manifest();
        Explanation e;
        e.logits = std::move(outputs.at("logits"));
        e.probabilities = probabilities(e.logits, m.ending);
        e.class_index = asked >= 0 ? asked : std::max_element(e.logits.begin(), e.logits.end()) - e.logits.begin();
        const auto index = static_cast<std::size_t>(e.class_index);
        e.probability = e.probabilities[index];
        if (!m.labels.empty()) {
            e.label = m.labels[index];
        }
        for (const char *method : detail::METHODS) {
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

    detail::Graph graph_;
};

} // namespace fusioncam

#endif
