// Opens a single graph, fusioncam.onnx, and runs it.
#ifndef FUSIONCAM_EXPLAINER_HPP
#define FUSIONCAM_EXPLAINER_HPP

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "answer.hpp"
#include "explanation.hpp"
#include "graph.hpp"
#include "manifest.hpp"
#include "picture.hpp"
#include "target.hpp"

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

    /// Explains a class of a photo of any size; -1 is the top class, or of a segmenter the one that covers most.
    ///
    /// `run` may be shared with another thread, whose `run.SetTerminate()` ends the call with a DeadlineError.
    /// Throws ImageError where the photo is empty or too large, UsageError where there is no such class, NotFiniteError
    /// where the model gives NaN or infinity, Error where it cannot run.
    Explanation explain(const PhotoView &photo, std::int64_t class_index = -1,
                        const Ort::RunOptions &run = Ort::RunOptions{nullptr}) const {
        return explain(photo, Target{Class{class_index}}, run);
    }

    /// Explains a class of a preprocessed input; the values are not copied. Otherwise as above.
    Explanation explain(const InputView &input, std::int64_t class_index = -1,
                        const Ort::RunOptions &run = Ort::RunOptions{nullptr}) const {
        return explain(input, Target{Class{class_index}}, run);
    }

    /// Explains a target: Class, Region, Box or Like. Throws UsageError also where the model has no such target, the class
    /// wins nowhere in the picture, or nothing is detected there.
    Explanation explain(const PhotoView &photo, const Target &target,
                        const Ort::RunOptions &run = Ort::RunOptions{nullptr}) const {
        const detail::TargetTensors tensors = detail::tensors_of(target, photo.size, manifest());
        const std::vector<float> x = detail::input_of(photo, manifest());
        return explained(x.data(), target, tensors, photo.size, run);
    }

    /// Explains a target of a preprocessed input. Otherwise as above.
    Explanation explain(const InputView &input, const Target &target,
                        const Ort::RunOptions &run = Ort::RunOptions{nullptr}) const {
        const detail::TargetTensors tensors = detail::tensors_of(target, std::nullopt, manifest());
        detail::check_input(input, manifest());
        return explained(input.values, target, tensors, std::nullopt, run);
    }

  private:
    Explanation explained(const float *x, const Target &target, const detail::TargetTensors &tensors,
                          std::optional<Size> photo, const Ort::RunOptions &options) const {
        return detail::explained(x, target, tensors, photo, manifest(),
                                 [&](const auto &told) { return graph_.run(x, told, options); });
    }

    detail::Graph graph_;
};

} // namespace fusioncam

#endif
