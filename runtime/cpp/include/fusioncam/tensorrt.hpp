// fusioncam by TensorRT, without onnxruntime: an engine that was built of a bundle's fusioncam.onnx explains pictures.
//
//     fusioncam::TensorRTExplainer explainer("model.engine", "model.fcam");
//     fusioncam::Explanation explanation = explainer.explain(fusioncam::read_image("photo.jpg"));
//
// Needs the headers and libraries of TensorRT 10 or later, or of TensorRT-RTX, and CUDA's runtime.
#ifndef FUSIONCAM_TENSORRT_HPP
#define FUSIONCAM_TENSORRT_HPP

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "answer.hpp"
#include "error.hpp"
#include "explanation.hpp"
#include "images.hpp"
#include "manifest.hpp"
#include "onnx_metadata.hpp"
#include "overlay.hpp"
#include "picture.hpp"
#include "target.hpp"
#include "tensorrt_engine.hpp"

namespace fusioncam {

/// Explains pictures with a TensorRT engine.
///
/// One TensorRTExplainer may be used by any number of threads; they take turns on its GPU, which is the one that is
/// current (cudaSetDevice) where the TensorRTExplainer is made.
class TensorRTExplainer {
  public:
    /// Loads an engine, and reads preprocessing and labels of the bundle it was built of: the folder, or its
    /// fusioncam.onnx, whose weights are not read.
    ///
    /// Throws BundleError where one of them is missing or damaged, or they do not belong together as far as names, types
    /// and shapes show; Error where CUDA or TensorRT cannot start.
    TensorRTExplainer(const std::filesystem::path &engine, const std::filesystem::path &bundle)
        : engine_(engine, detail::manifest_of(bundle)) {}

    const Manifest &manifest() const { return engine_.manifest(); }

    /// Explains a class of a photo of any size; -1 is the top class, or of a segmenter the one that covers most.
    ///
    /// Throws ImageError where the photo is empty or too large, UsageError where there is no such class, NotFiniteError
    /// where the model gives NaN or infinity, Error where it cannot run.
    Explanation explain(const PhotoView &photo, std::int64_t class_index = -1) const {
        return explain(photo, Target{Class{class_index}});
    }

    /// Explains a class of a preprocessed input. Otherwise as above.
    Explanation explain(const InputView &input, std::int64_t class_index = -1) const {
        return explain(input, Target{Class{class_index}});
    }

    /// Explains a target: Class, Region, Box or Like. Throws UsageError also where the model has no such target, the class
    /// wins nowhere in the picture, or nothing is detected there.
    Explanation explain(const PhotoView &photo, const Target &target) const {
        const detail::TargetTensors tensors = detail::tensors_of(target, photo.size, manifest());
        const std::vector<float> x = detail::input_of(photo, manifest());
        return explained(x.data(), target, tensors, photo.size);
    }

    /// Explains a target of a preprocessed input. Otherwise as above.
    Explanation explain(const InputView &input, const Target &target) const {
        const detail::TargetTensors tensors = detail::tensors_of(target, std::nullopt, manifest());
        detail::check_input(input, manifest());
        return explained(input.values, target, tensors, std::nullopt);
    }

  private:
    Explanation explained(const float *x, const Target &target, const detail::TargetTensors &tensors,
                          std::optional<Size> photo) const {
        return detail::explained(x, target, tensors, photo, manifest(),
                                 [&](const auto &told) { return engine_.run(x, told); });
    }

    detail::TensorRTEngine engine_;
};

} // namespace fusioncam

#endif
